// The labelling page: one task after another, ranked or answered, and the last label taken back.
// Every text is set as textContent: what a model or a user writes is never read as HTML.

import { load, save } from "./storage.js";
import { preferred } from "./strings.js";
import { WORDS } from "./words.js";

const $ = (id) => document.getElementById(id);

let settings = load(localStorage, "fledge.label", {}); // {annotator, language, theme}
let key = load(sessionStorage, "fledge.key", ""); // outlives the tab nowhere
let words = WORDS.en;
let task = null;
let counts = null; // {done, left}
let chosen = []; // ids of answers, the best first
let past = []; // {task, text, note} of what was sent, for undo
let began = 0;
let busy = false;

class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

function element(tag, className, content) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (content !== undefined) made.textContent = content;
  return made;
}

const fill = (pattern, values) =>
  pattern.replace(/\{(\w+)\}/g, (_, name) => String(values[name]));

// --- the server --------------------------------------------------------------------------

async function call(path, body) {
  const headers = { "Content-Type": "application/json" };
  if (key) headers.Authorization = `Bearer ${key}`;
  const request = body ? { method: "POST", headers, body: JSON.stringify(body) } : { headers };
  const response = await fetch(path, request);
  if (response.ok) return response.json();
  let message = `${response.status} ${response.statusText}`;
  try {
    message = (await response.json()).error.message;
  } catch {
    // Not in the API's shape: the status has to do.
  }
  throw new ApiError(response.status, message);
}

function explain(error) {
  if (error instanceof ApiError) return error.status === 401 ? words.needsKey : error.message;
  return error instanceof TypeError ? words.unreachable : String(error.message ?? error);
}

/** Do `work` alone; what goes wrong is shown.  Returns whether it went well. */
async function alone(work) {
  if (busy) return false;
  busy = true;
  $("error").hidden = $("retry").hidden = true;
  try {
    await work();
    return true;
  } catch (error) {
    $("error").textContent = explain(error);
    $("error").hidden = false;
    $("retry").hidden = task !== null;
    return false;
  } finally {
    busy = false;
    render();
  }
}

async function fetchNext() {
  task = null;
  const found = await call(`api/next?annotator=${encodeURIComponent(settings.annotator)}`);
  counts = { done: found.done, left: found.left };
  show(found.task);
}

async function fetchGuidelines() {
  const { guidelines } = await call("api/progress");
  $("guidelines").textContent = guidelines;
  $("guide").hidden = !guidelines.trim();
}

function begin() {
  return alone(async () => {
    await fetchGuidelines();
    await fetchNext();
  });
}

// --- labels ------------------------------------------------------------------------------

function show(shown, { text = "", note = "" } = {}) {
  task = shown;
  chosen = [];
  began = performance.now();
  if (task === null) return;
  const draft = load(sessionStorage, "fledge.draft", {});
  $("text").value = text || (draft.task === task.key ? draft.text : "");
  $("note").value = note;
}

function label(kind, more = {}) {
  const note = $("note").value.trim();
  const shown = task.answers.map((answer) => answer.id);
  const seconds = Math.round(performance.now() - began) / 1000;
  return { task: task.key, annotator: settings.annotator, kind, note, shown, seconds, ...more };
}

async function send(made) {
  const sent = { task, text: made.text, note: made.note };
  const done = await alone(async () => {
    await call("api/label", made);
    past.push(sent);
    $("status").textContent = words.kept;
    await fetchNext();
  });
  if (!done && task === sent.task) chosen = []; // it was not kept
  render();
  (task?.kind === "write" ? $("text") : $("what")).focus({ preventScroll: true });
}

function sendRanking() {
  const rest = task.answers.map((answer) => answer.id).filter((id) => !chosen.includes(id));
  const ranking = chosen.map((id) => [id]);
  send(label("rank", { ranking: rest.length ? [...ranking, rest] : ranking }));
}

function choose(place) {
  const answer = task?.answers[place];
  if (busy || !answer || chosen.includes(answer.id)) return;
  chosen.push(answer.id);
  if (chosen.length >= task.answers.length - 1) sendRanking();
  else render();
}

function tie() {
  if (!busy && task?.kind === "rank") sendRanking();
}

function sendText() {
  const text = $("text").value.trim();
  if (!busy && task?.kind === "write" && text) send(label("write", { text }));
}

function skip() {
  if (!busy && task) send(label("skip"));
}

async function undo() {
  if (busy) return;
  if (chosen.length) {
    chosen.pop();
    render();
    return;
  }
  const last = past.at(-1);
  if (!last) return;
  await alone(async () => {
    const { annotator } = settings;
    await call("api/label", { task: last.task.key, annotator, kind: "undo" });
    past.pop();
    if (counts) counts = { done: counts.done - 1, left: counts.left + 1 };
    show(last.task, last);
  });
}

// --- what is seen ------------------------------------------------------------------------

function render() {
  $("counts").textContent = counts ? fill(words.counts, counts) : "";
  $("undo").disabled = busy || !(past.length || chosen.length);
  $("done").hidden = task !== null || counts?.left !== 0;
  $("task").hidden = task === null;
  if (task === null) return;
  const ranks = task.kind === "rank";
  const two = task.answers.length === 2;
  $("what").textContent = ranks ? (two ? words.rankTwo : words.rankMany) : words.write;
  $("prompt").replaceChildren(...task.prompt.map(turnNode));
  $("answers").replaceChildren(...task.answers.map(answerNode));
  $("answers").hidden = $("tie").hidden = !ranks;
  $("text").hidden = $("send").hidden = ranks;
  $("send").disabled = !$("text").value.trim();
  $("tie").textContent = chosen.length ? words.tieRest : words.tie;
  $("keys").textContent = ranks
    ? fill(words.keysRank, { n: `1–${task.answers.length}` })
    : words.keysWrite;
}

function turnNode({ role, text }) {
  const node = element("article", `message ${role}`);
  const body = element("div", "body", text);
  body.dir = "auto";
  node.append(element("h3", "role", words.roles[role] ?? role), body);
  return node;
}

function answerNode({ id, text }, place) {
  const node = element("article", "answer");
  const n = place + 1;
  const body = element("div", "body", text || words.empty);
  body.dir = "auto";
  node.append(element("h3", "role", fill(words.answer, { n })), body);
  const rank = chosen.indexOf(id);
  if (rank >= 0) {
    node.append(element("p", "note", fill(words.chosen, { n: rank + 1 })));
    return node;
  }
  const made = element("button", "", fill(chosen.length ? words.chooseNext : words.choose, { n }));
  made.type = "button";
  onClick(made, () => choose(place));
  node.append(made);
  return node;
}

/** A double click is one click: the second would label the task that came meanwhile. */
function onClick(node, act) {
  node.addEventListener("click", (event) => {
    if (event.detail <= 1) act();
  });
}

function applyLanguage() {
  const language = settings.language ?? preferred(navigator.languages);
  words = WORDS[language] ?? WORDS.en;
  document.documentElement.lang = language;
  document.documentElement.dataset.theme = settings.theme ?? "auto";
  $("language").value = language;
  $("theme").value = settings.theme ?? "auto";
  for (const [name, set] of [
    ["text", (node, value) => (node.textContent = value)],
    ["label", (node, value) => node.setAttribute("aria-label", value)],
    ["title", (node, value) => (node.title = value)],
    ["placeholder", (node, value) => (node.placeholder = value)],
  ]) {
    for (const node of document.querySelectorAll(`[data-${name}]`)) {
      set(node, words[node.dataset[name]]);
    }
  }
  render();
}

// --- wiring ------------------------------------------------------------------------------

function showSettings() {
  $("annotator").value = settings.annotator ?? "";
  $("api_key").value = key;
  $("settings").showModal();
}

/** Keep what the settings say; another person, or another key, begins anew. */
function readSettings() {
  const annotator = $("annotator").value.trim();
  if (!annotator) return;
  const before = [settings.annotator, key].join("\n");
  settings = { ...settings, annotator };
  key = $("api_key").value.trim();
  save(localStorage, "fledge.label", settings);
  save(sessionStorage, "fledge.key", key);
  $("settings").close();
  if (before === [annotator, key].join("\n") && counts) return;
  past = [];
  begin();
}

/** The keys that label, but not while one writes or a key is held down. */
function onKey(event) {
  if ($("settings").open || event.isComposing || event.repeat) return;
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) sendText();
  const writes = event.target.matches("input, textarea, select");
  if (writes || event.ctrlKey || event.metaKey || event.altKey) return;
  if (/^[1-9]$/.test(event.key)) choose(Number(event.key) - 1);
  else if (event.key === "0") tie();
  else if (event.key === "s") skip();
  else if (event.key === "u") undo();
  else return;
  event.preventDefault(); // the key must not be written into a field that now has the focus
}

function set(name, value) {
  settings = { ...settings, [name]: value };
  save(localStorage, "fledge.label", settings);
  applyLanguage();
}

function start() {
  for (const [id, act] of [
    ["undo", undo],
    ["retry", begin],
    ["send", sendText],
    ["tie", tie],
    ["skip", skip],
    ["open-settings", showSettings],
  ]) {
    onClick($(id), act);
  }
  $("what").tabIndex = -1;
  $("form").addEventListener("submit", (event) => {
    event.preventDefault();
    readSettings();
  });
  $("language").addEventListener("input", (event) => set("language", event.target.value));
  $("theme").addEventListener("input", (event) => set("theme", event.target.value));
  $("text").addEventListener("input", () => {
    save(sessionStorage, "fledge.draft", { task: task.key, text: $("text").value });
    $("send").disabled = !$("text").value.trim();
  });
  document.addEventListener("keydown", onKey);
  // On a narrow screen the guidelines stand above the task and begin folded.
  $("details").open = window.matchMedia("(min-width: 40rem)").matches;
  applyLanguage();
  if (settings.annotator) begin();
  else showSettings();
}

start();
