"""Style of the page. Colours follow the theme where it has them, so that the browser's dark mode works."""

# Colours of the models, in their order; light enough for a dark page and dark enough for white letters.
COLORS = ("#2f6fb5", "#b8541e", "#2c8454", "#8a4fa8", "#a33b54", "#5b6470")
CSS = """
.gradio-container { --lg-dim: color-mix(in srgb, var(--body-text-color) 68%, transparent);
  max-width: 1180px !important; margin: 0 auto !important; }
.lg-note { border-left: 3px solid #c58a00; padding: .35em .8em; margin: .3em 0; overflow-wrap: anywhere; }
.lg-dim { color: var(--lg-dim); font-size: .9em; }
.lg-h { font-weight: 600; margin: 1.1em 0 .4em; }
.lg-h span { font-weight: 400; }
.lg-cards { display: grid; gap: 14px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 270px), 1fr)); }
.lg-card { border: 1px solid var(--border-color-primary); border-top: 4px solid var(--lg-color); border-radius: 8px;
  padding: .7em .95em; min-width: 0; background: var(--background-fill-primary); }
.lg-name { display: flex; flex-wrap: wrap; align-items: baseline; gap: .1em .6em; margin-bottom: .5em;
  overflow-wrap: anywhere; }
.lg-name b { font-size: 1.05em; }
.lg-answer { padding: .5em 0 .6em; border-top: 1px solid var(--border-color-primary); }
.lg-text { font-size: 1.12em; overflow-wrap: anywhere; display: flex; gap: .5em; align-items: baseline; }
.lg-badge { flex: none; background: var(--lg-color); color: #fff; border-radius: 4px; font-size: .72em;
  font-weight: 600; padding: .1em .45em; }
.lg-numbers { display: flex; flex-wrap: wrap; gap: .1em 1.2em; margin-top: .3em; font-size: .9em;
  color: var(--lg-dim); }
.lg-numbers b { color: var(--body-text-color); font-variant-numeric: tabular-nums; }
.lg-strip { margin: 1.9em 0 0; }
.lg-plot { position: relative; height: 120px; border-bottom: 1px solid var(--lg-dim); }
.lg-plot svg { position: absolute; inset: 0; width: 100%; height: 100%; }
.lg-plot rect { fill: var(--body-text-color); opacity: .2; }
.lg-mark { position: absolute; top: 0; bottom: 0; width: 2px; margin-left: -1px; background: var(--lg-color); }
.lg-mark span { position: absolute; top: calc(-1.55em - var(--lg-row) * 1.5em); left: 50%; transform: translateX(-50%);
  background: var(--lg-color); color: #fff; font-size: .72em; font-weight: 600; border-radius: 4px; padding: 0 .4em;
  white-space: nowrap; }
.lg-tick { position: absolute; bottom: 0; width: 2px; margin-left: -1px; height: 26px;
  background: var(--body-text-color); }
.lg-axis { position: relative; height: 1.7em; font-size: .82em; color: var(--lg-dim); }
.lg-axis span { position: absolute; transform: translateX(-50%); white-space: nowrap; }
.lg-axis span:first-child { transform: none; }
.lg-axis span:last-child { transform: translateX(-100%); }
.lg-rows { display: grid; grid-template-columns: auto 1fr; gap: .25em .9em; }
.lg-rows > :nth-child(odd) { text-align: right; font-variant-numeric: tabular-nums;
  color: var(--lg-dim); white-space: nowrap; }
.lg-rows > * { overflow-wrap: anywhere; }
.lg-draw { border-top: 1px solid var(--border-color-primary); padding: .45em 0; }
.lg-draw p { margin: 0; font-size: 1.08em; overflow-wrap: anywhere; line-height: 1.6; }
.lg-draw ins { text-decoration: none; background: #1f8a4c2e; border-bottom: 2px solid #1f8a4c; border-radius: 3px;
  padding: 0 .15em; }
.lg-draw del { text-decoration-color: #c03d3d; text-decoration-thickness: 2px; background: #c03d3d24;
  border-radius: 3px; padding: 0 .15em; }
.lg-facts { display: grid; gap: 10px; grid-template-columns: repeat(auto-fit, minmax(135px, 1fr));
  margin: .2em 0 .6em; }
.lg-fact { border: 1px solid var(--border-color-primary); border-radius: 8px; padding: .45em .8em; }
.lg-fact b { display: block; font-size: 1.25em; font-variant-numeric: tabular-nums; }
.lg-fact span { font-size: .85em; color: var(--lg-dim); }
.lg-bars { display: grid; grid-template-columns: 4.2em 1fr 4.4em; gap: .22em .7em; align-items: center; }
.lg-bars > :nth-child(3n+1) { text-align: right; }
.lg-bars > :nth-child(3n) { font-variant-numeric: tabular-nums; }
.lg-bar { height: .85em; border-radius: 3px; background: #2f6fb5; min-width: 1px; }
"""
