"""How the page looks: light or dark as the reader's system, with the system's own fonts."""

STYLE = """
:root {
  --paper: #fff; --ink: #1b1f24; --faint: #59636e; --line: #d5dae0; --panel: #f5f7f9; --accent: #0a58ca;
}
@media (prefers-color-scheme: dark) {
  :root { --paper: #12161b; --ink: #e4e8ec; --faint: #9aa5b1; --line: #333b45; --panel: #1b2129; --accent: #7db3ff; }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 66rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .75rem; }
h2 { font-size: 1.4rem; line-height: 1.3; margin: 0 0 .75rem; }
h3 { font-size: 1.05rem; margin: 2rem 0 .5rem; overflow-wrap: anywhere; }
p, .legend { max-width: 46rem; }
a { color: var(--accent); }
section, footer { margin-top: 3rem; padding-top: 1.75rem; border-top: 1px solid var(--line); }
nav ul { list-style: none; margin: 1.25rem 0 0; padding: 0; display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; }
.lead { font-size: 1.2rem; line-height: 1.5; }
.note, figcaption, footer p { color: var(--faint); font-size: .9rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .75rem; margin: 1.5rem 0; }
.tiles div { background: var(--panel); border-radius: .5rem; padding: .8rem 1rem; }
.tiles div { display: flex; flex-direction: column-reverse; justify-content: flex-end; }
.tiles dt { color: var(--faint); font-size: .9rem; line-height: 1.3; }
.tiles dd { margin: 0; font-size: 1.7rem; font-weight: 600; font-variant-numeric: tabular-nums; }
figure { margin: 1.5rem 0; }
img, video { display: block; max-width: 100%; height: auto; border-radius: .5rem; }
img { background: #fff; padding: .4rem; border: 1px solid var(--line); }
video { background: #000; max-height: 80vh; }
figcaption { margin-top: .5rem; max-width: 46rem; }
.videos { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(18rem, 100%), 1fr)); gap: 1rem; }
.videos { align-items: end; }
.videos figure { margin: 0; }
.videos video { width: 100%; }
.scroll { overflow-x: auto; margin: 1.5rem 0; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .95rem; }
caption { text-align: left; color: var(--faint); font-size: .9rem; padding-bottom: .5rem; }
th, td { padding: .45rem .7rem; text-align: right; vertical-align: top; white-space: nowrap; line-height: 1.3; }
th { font-weight: 600; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom: 2px solid var(--line); vertical-align: bottom; white-space: normal; }
tbody th { font-weight: 400; }
tbody tr { border-bottom: 1px solid var(--line); }
.group th { padding-top: 1.1rem; color: var(--faint); font-size: .85rem; }
.best { background: var(--panel); }
td small, th small { display: block; color: var(--faint); font-size: .78rem; font-weight: 400; }
.legend { display: grid; grid-template-columns: minmax(6rem, auto) 1fr; gap: .4rem 1.25rem; font-size: .92rem; }
.legend dt { font-weight: 600; }
.legend dd { margin: 0; }
pre { background: var(--panel); border-radius: .5rem; padding: .9rem 1rem; overflow-x: auto; font-size: .88rem; }
code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
@media print { nav { display: none; } section, figure { break-inside: avoid; } }
"""
