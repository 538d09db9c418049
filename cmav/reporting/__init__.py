"""The parts of `report.html`: what a run left, as one page that needs neither a network nor another file."""
