"""The page on which people rate texts: one HTML file that needs no network. `sheet.py` fills in DATA."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>Rating texts</title>
<style>
:root { color-scheme: light dark; --line: #8886; --soft: #8882; --accent: #2563eb; --on: #fff; }
* { box-sizing: border-box; }
body { font: 17px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 0 auto; padding: 1rem; }
header { display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; align-items: baseline; }
h1 { font-size: 1.3rem; margin: 0; flex: 1; }
input[type=text] { font: inherit; padding: .2rem .5rem; width: 11rem; }
progress { width: 100%; height: .5rem; accent-color: var(--accent); }
details { font-size: .9rem; margin: .3rem 0 1rem; }
kbd { border: 1px solid var(--line); border-radius: .25rem; padding: 0 .35rem; font: .85em monospace; }
.words { border: 1px solid var(--line); border-radius: .5rem; padding: .8rem 1rem; white-space: pre-wrap;
  overflow-wrap: anywhere; }
#prompt { background: var(--soft); margin-bottom: .5rem; font-size: .95rem; }
#text { min-height: 7rem; font-size: 1.1rem; }
.label { font-size: .8rem; opacity: .75; margin: .6rem 0 .15rem; }
fieldset { border: 1px solid transparent; border-radius: .5rem; padding: .3rem .6rem .5rem; margin: .3rem 0; }
fieldset.now { border-color: var(--accent); background: var(--soft); }
legend { font-weight: 600; padding: 0 .3rem; }
legend small { font-weight: 400; opacity: .8; }
.marks { display: flex; gap: .4rem; }
.marks label { flex: 1; position: relative; text-align: center; border: 1px solid var(--line);
  border-radius: .4rem; padding: .25rem; cursor: pointer; }
.marks input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0;
  cursor: pointer; }
.marks label:has(:checked) { background: var(--accent); border-color: var(--accent); color: var(--on); }
.marks label:has(:focus-visible) { outline: 3px solid var(--accent); outline-offset: 2px; }
nav { display: flex; flex-wrap: wrap; gap: .5rem; margin-top: .8rem; }
button { font: inherit; padding: .35rem .9rem; cursor: pointer; }
nav .right { margin-left: auto; }
#said { min-height: 1.5em; font-size: .9rem; }
</style>
</head>
<body>
<header>
<h1 id="where">Rating texts</h1>
<label>Your name <input type="text" id="name" autocomplete="off" maxlength="80"></label>
</header>
<progress id="done" value="0" max="1" aria-label="Texts rated"></progress>
<details open><summary>How to rate</summary>
Give each text 1 (bad) to 5 (good) on each scale, judging the text alone. You cannot see who wrote it.
<kbd>1</kbd> to <kbd>5</kbd> rate, <kbd>&uarr;</kbd> <kbd>&darr;</kbd> choose the scale, <kbd>&larr;</kbd>
<kbd>&rarr;</kbd> change the text, <kbd>Enter</kbd> goes to the next text that is not rated, <kbd>0</kbd>
takes a rating back. At the end, or at any time, download your ratings and send the file back.
</details>
<main>
<div id="asked" hidden><div class="label">Prompt</div><div id="prompt" class="words" dir="auto"></div></div>
<div class="label">Text</div>
<div id="text" class="words" dir="auto" aria-live="polite"></div>
<form id="scales"></form>
<nav>
<button type="button" id="back">&larr; Back</button>
<button type="button" id="next">Next &rarr;</button>
<button type="button" id="save" class="right">Download ratings</button>
</nav>
<p id="said" role="status"></p>
</main>
<noscript>This page needs JavaScript.</noscript>
<script type="application/json" id="data">DATA</script>
<script>
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const get = id => document.getElementById(id);
const names = data.scales.map(scale => scale[0]);
const kept = "minimega-sheet-" + data.sheet;
const state = {name: "", at: 0, ratings: data.samples.map(() => ({}))};
let row = 0;

function load() {
  try {
    const old = JSON.parse(localStorage.getItem(kept));
    if (old && old.ratings.length === state.ratings.length) Object.assign(state, old);
  } catch (error) { say("This browser keeps no progress: download your ratings before you close the page."); }
}
function keep() {
  try { localStorage.setItem(kept, JSON.stringify(state)); } catch (error) { /* said by load */ }
}
function say(text) { get("said").textContent = text; }
function full(n) { return names.every(name => state.ratings[n][name]); }

for (const [name, question] of data.scales) {
  const set = document.createElement("fieldset"), legend = document.createElement("legend");
  const marks = document.createElement("div"), small = document.createElement("small");
  legend.textContent = name + " ";
  small.textContent = question;
  legend.append(small);
  marks.className = "marks";
  for (let mark = 1; mark <= 5; mark++) {
    const label = document.createElement("label"), input = document.createElement("input");
    Object.assign(input, {type: "radio", name: name, value: mark});
    input.setAttribute("aria-label", name + " " + mark);
    input.addEventListener("change", () => { row = names.indexOf(name); rate(mark, false); });
    input.addEventListener("focus", () => { row = names.indexOf(name); mark_row(); });
    label.append(input, String(mark));
    marks.append(label);
  }
  set.append(legend, marks);
  get("scales").append(set);
}
function mark_row() {
  const sets = [...get("scales").children], focused = document.activeElement;
  sets.forEach((set, n) => set.classList.toggle("now", n === row));
  if (focused && focused.type === "radio" && focused.name !== names[row])  // the focus follows
    (sets[row].querySelector(":checked") || sets[row].querySelector("input")).focus();
}
function show() {
  const sample = data.samples[state.at], count = data.samples.length;
  get("where").textContent = "Text " + (state.at + 1) + " of " + count;
  get("text").textContent = sample.text;
  get("asked").hidden = !sample.prompt;
  get("prompt").textContent = sample.prompt || "";
  for (const input of get("scales").querySelectorAll("input"))
    input.checked = state.ratings[state.at][input.name] === Number(input.value);
  mark_row();
  const done = state.ratings.filter((_, n) => full(n)).length;
  Object.assign(get("done"), {value: done, max: count});
  get("back").disabled = state.at === 0;
  get("next").disabled = state.at === count - 1;
  if (done === count) say("All " + count + " texts are rated. Download your ratings.");
}
function rate(mark, move) {
  if (mark) state.ratings[state.at][names[row]] = mark;
  else delete state.ratings[state.at][names[row]];
  say("");
  if (move && mark) row = Math.min(row + 1, names.length - 1);
  keep();
  show();
}
function go(to) {
  if (to < 0 || to >= data.samples.length) return;
  state.at = to;
  row = 0;
  if (document.activeElement && document.activeElement.type === "radio") document.activeElement.blur();
  say("");
  keep();
  show();
  window.scrollTo(0, 0);
}
function next_open() {
  const count = data.samples.length;
  for (let step = 1; step <= count; step++)
    if (!full((state.at + step) % count)) return go((state.at + step) % count);
}
function download() {
  state.name = state.name.trim();
  if (!state.name) {
    say("Please enter your name first: it distinguishes your ratings from other people's.");
    return get("name").focus();
  }
  const result = {format: "minimega ratings", version: 1, sheet: data.sheet, rater: state.name,
    ratings: state.ratings};
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(result, null, 1)], {type: "application/json"}));
  link.download = "ratings-" + state.name.replace(/[^\\p{L}\\p{N}_-]+/gu, "-") + ".json";
  link.click();
  const left = state.ratings.filter((_, n) => !full(n)).length;
  say("Saved as " + link.download + (left ? "; " + left + " texts are not fully rated yet." : "."));
}
document.addEventListener("keydown", event => {
  if (event.target === get("name") || event.ctrlKey || event.metaKey || event.altKey) return;
  const button = event.target.tagName === "BUTTON" || event.target.tagName === "SUMMARY";
  if (/^[0-5]$/.test(event.key)) rate(Number(event.key), true);
  else if (event.key === "ArrowDown") row = Math.min(row + 1, names.length - 1);
  else if (event.key === "ArrowUp") row = Math.max(row - 1, 0);
  else if (event.key === "ArrowLeft") go(state.at - 1);
  else if (event.key === "ArrowRight") go(state.at + 1);
  else if (event.key === "Enter" && !button) next_open();
  else return;
  mark_row();
  event.preventDefault();
});
get("name").addEventListener("input", event => { state.name = event.target.value; keep(); });
get("name").addEventListener("keydown", event => { if (event.key === "Enter") event.target.blur(); });
get("back").addEventListener("click", () => go(state.at - 1));
get("next").addEventListener("click", () => go(state.at + 1));
get("save").addEventListener("click", download);
load();
get("name").value = state.name;
show();
</script>
</body>
</html>
"""
