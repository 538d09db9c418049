"""The experiments by name."""

from cmav.experiments.catalogue import actions, cmac, paper, sounds, synchronization

EXPERIMENTS = {
    "table1": paper.TABLE1,
    "table1_grid": paper.TABLE1_GRID,
    "table2": paper.TABLE2,
    "table3": paper.TABLE3,
    "label_budgets": actions.LABEL_BUDGETS,
    "plateau": synchronization.PLATEAU,
    "tokens": synchronization.TOKENS,
    "sync_grid": synchronization.SYNC_GRID,
    "scaling_grid": synchronization.SCALING_GRID,
    "cmac_parts": cmac.CMAC_PARTS,
    "cmac_grid": cmac.CMAC_GRID,
    "esc10": sounds.ESC10,
}
