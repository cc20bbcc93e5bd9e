"""The parts of a report's page that are the same on every page: its style and its script."""

STYLE = """
:root { --text: #1b1b1b; --back: #fff; --soft: #595959; --line: #d0d0d0; --accent: #005a9c }
@media (prefers-color-scheme: dark) {
  :root { --text: #e8e8e8; --back: #16181b; --soft: #b4b4b4; --line: #44484d; --accent: #7cc4ff }
  .chart svg text { fill: #d8d8d8 !important }
  .chart svg .role-axis-domain line, .chart svg .role-axis-tick line { stroke: #999 !important }
}
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; color: var(--text); background: var(--back);
  font: 1rem/1.5 system-ui, sans-serif }
h1 { font-size: 1.6rem; line-height: 1.2 } h2 { font-size: 1.25rem; margin-top: 2.5rem }
h1, h2, p, li, dd, summary, figcaption { overflow-wrap: anywhere }
.question { font-size: 1.1rem }
figure { margin: 1.5rem 0 } figcaption { color: var(--soft); margin-bottom: .5rem }
.chart svg { max-width: 100%; height: auto; display: block } img { max-width: 100%; height: auto }
.controls { position: sticky; top: 0; z-index: 1; background: var(--back); padding: .5rem 0;
  border-bottom: 1px solid var(--line); display: flex; flex-wrap: wrap; gap: .25rem 1rem;
  align-items: center; max-height: 40vh; overflow: auto }
.controls[hidden] { display: none }
.controls fieldset { border: 0; padding: 0; margin: 0; display: flex; flex-wrap: wrap;
  gap: 0 .9rem } .controls legend { color: var(--soft) }
@media (max-width: 40rem) { .controls { position: static; max-height: none } }
.controls label { display: inline-flex; align-items: center; gap: .3rem; min-height: 2rem }
input, select, button { font: inherit; accent-color: var(--accent) }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px }
.scroll { overflow-x: auto } table { border-collapse: collapse; font-size: .9rem }
caption { text-align: left; color: var(--soft); padding: .4rem 0 }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0;
  border-bottom: 1px solid var(--line) }
summary { cursor: pointer; padding: .3rem 0; color: var(--accent) }
dt { color: var(--soft) } dd { margin: 0 0 .5rem } code { font-size: .85rem }
footer { margin-top: 3rem; color: var(--soft); border-top: 1px solid var(--line) }
#vg-tooltip-element { font: .85rem system-ui, sans-serif }
@media print { .controls { display: none } details > * { display: block }
  figure { break-inside: avoid } }
"""

SCRIPT = """
const charts = JSON.parse(document.getElementById('charts').textContent);
const views = [];
for (const [key, spec] of Object.entries(charts)) {
  const box = document.getElementById(key);
  const fits = box.clientWidth - 90;
  if (fits < spec.width) {
    spec.width = Math.max(fits, 200); spec.height = 240;
    for (const {encoding: {color, strokeDash}} of spec.layer)
      for (const channel of [color, strokeDash])
        if (channel && channel.legend) channel.legend.columns = 1;
  }
  const drawn = box.innerHTML;
  box.innerHTML = '';
  window.vegaEmbed(box, spec, {actions: false, renderer: 'svg', tooltip: {theme: 'light'}})
    .then(result => views.push(result.view))
    .catch(error => { box.innerHTML = drawn; throw error; });
}
const controls = document.getElementById('controls');
if (controls) controls.hidden = false;
controls?.addEventListener('change', () => {
  const boxes = [...controls.querySelectorAll('input[name=agent]')];
  const shown = boxes.filter(box => box.checked).map(box => box.value);
  for (const view of views) view.signal('shown', shown).runAsync();
  const split = document.getElementById('split');
  if (split)
    for (const section of document.querySelectorAll('section.split'))
      section.hidden = split.value !== '' && section.id !== split.value;
});
controls?.addEventListener('submit', event => event.preventDefault());
"""
