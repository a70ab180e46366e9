// The chat page: a conversation, the answers as they are written, and the settings.
// Every text is set as textContent: what a model or a user writes is never read as HTML.

import { ApiError, chat, modelName } from "./api.js";
import { whatFits } from "./fit.js";
import { load, save } from "./storage.js";
import { STRINGS, preferred } from "./strings.js";

const $ = (id) => document.getElementById(id);
const NUMBERS = ["temperature", "top_p", "max_tokens", "seed"];
const FIELDS = ["system", ...NUMBERS];


let messages = load(sessionStorage, "fledge.chat", []); // {role, content, citations, note, error, left}
let settings = load(localStorage, "fledge.settings", {});
let model = null;
let running = null; // the AbortController of the answer being written
let text = STRINGS.en;
let left = { turns: 0, context: null }; // the turns that did not fit when last asked

function element(tag, className, content) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (content !== undefined) made.textContent = content;
  return made;
}

function button(label, onClick, className = "small") {
  const made = element("button", className, label);
  made.type = "button";
  made.addEventListener("click", () => onClick(made));
  return made;
}

const fill = (pattern, n) => pattern.replace("{n}", n);

// --- language and appearance -------------------------------------------------------------

function applyLanguage() {
  const language = settings.language ?? preferred(navigator.languages);
  text = STRINGS[language] ?? STRINGS.en;
  document.documentElement.lang = language;
  $("language").value = language;
  for (const node of document.querySelectorAll("[data-text]")) {
    node.textContent = text[node.dataset.text];
  }
  for (const [name, attribute] of [
    ["label", "aria-label"],
    ["title", "title"],
    ["placeholder", "placeholder"],
  ]) {
    for (const node of document.querySelectorAll(`[data-${name}]`)) {
      node.setAttribute(attribute, text[node.dataset[name]]);
    }
  }
  $("examples").replaceChildren(
    ...text.examples.map((question) => button(question, () => ask(question), "example")),
  );
  render();
}

function applyTheme() {
  $("theme").value = settings.theme ?? "auto";
  document.documentElement.dataset.theme = settings.theme ?? "auto";
}

// --- the conversation --------------------------------------------------------------------

function render() {
  $("welcome").hidden = messages.length > 0;
  $("log").replaceChildren(...messages.map(messageNode));
  showState();
}

function messageNode(message, place) {
  const node = element("article", `message ${message.role}`);
  node.append(element("h3", "unseen", message.role === "user" ? text.you : text.assistant));
  const body = element("div", "body", message.content);
  body.dir = "auto";
  node.append(body);
  if (message.role !== "assistant") return node;
  const last = place === messages.length - 1;
  const writing = running !== null && last;
  node.setAttribute("aria-busy", String(writing));
  if (writing) {
    node.classList.add("writing");
    return node;
  }
  if (!message.content && !message.error) body.textContent = text.empty;
  if (message.error) {
    const error = element("p", "error", message.error);
    error.setAttribute("role", "alert");
    if (!message.content) body.remove();
    node.append(error);
  }
  if (message.citations?.length) node.append(sourcesNode(message.citations));
  node.append(footNode(message, last));
  return node;
}

/** What an answer rests on: each quotation with its document and the place in it. */
function sourcesNode(citations) {
  const list = element("ol", "sources");
  list.setAttribute("aria-label", text.sources);
  for (const { marker, path, place, quote } of citations) {
    const row = element("li");
    row.append(element("span", "marker", marker));
    const where = element("cite", "", path.split("/").slice(-2).join("/"));
    where.title = path;
    row.append(where);
    if (place) row.append(element("span", "place", place));
    const said = element("blockquote", "", quote);
    said.dir = "auto";
    row.append(said);
    list.append(row);
  }
  return list;
}

function footNode(message, last) {
  const foot = element("footer");
  if (message.content) foot.append(button(text.copy, (made) => copy(made, message.content)));
  if (last) foot.append(button(message.error ? text.retry : text.regenerate, regenerate));
  const note = message.note ?? {};
  const parts = [];
  if (message.left) {
    const { context } = message.left;
    parts.push(context ? fill(text.leftOut, context) : text.leftOutSome);
  }
  if (note.tokens) parts.push(fill(text.tokens, note.tokens));
  if (note.rate) parts.push(fill(text.rate, note.rate));
  if (note.end) parts.push(text[note.end]);
  if (parts.length) foot.append(element("span", "note", parts.join(" · ")));
  return foot;
}

async function copy(made, content) {
  try {
    await navigator.clipboard.writeText(content);
  } catch {
    copyBySelection(content); // no clipboard outside https and localhost
  }
  made.textContent = text.copied;
  setTimeout(() => (made.textContent = text.copy), 1500);
}

function copyBySelection(content) {
  const area = element("textarea", "unseen");
  area.value = content;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

function showState() {
  const busy = running !== null;
  $("send").hidden = busy;
  $("stop").hidden = !busy;
  $("send").disabled = !$("input").value.trim();
  $("new").disabled = messages.length === 0;
}

function ask(question) {
  if (running || !question.trim()) return;
  messages.push({ role: "user", content: question });
  answer();
}

function regenerate() {
  if (running) return;
  messages.pop();
  answer();
}

/** What was said before the answer that is being written. */
function spoken() {
  return messages
    .slice(0, -1)
    .filter((message, place) => {
      const next = messages[place + 1]; // a question that only got an error was never asked
      return message.content && !(message.role === "user" && next.error && !next.content);
    })
    .map(({ role, content }) => ({ role, content }));
}

function request(kept, room) {
  const system = settings.system?.trim();
  const body = {
    model,
    messages: [...(system ? [{ role: "system", content: system }] : []), ...kept],
    answer_room: room,
  };
  for (const name of NUMBERS) {
    if (typeof settings[name] === "number") body[name] = settings[name];
  }
  return body;
}

async function* pieces(kept, room, signal) {
  try {
    yield* chat(request(kept, room), settings.api_key, signal);
  } catch (error) {
    if (error.code !== "model_not_found") throw error;
    model = await name(); // the server was started anew with another model
    yield* chat(request(kept, room), settings.api_key, signal);
  }
}

async function answer() {
  const reply = { role: "assistant", content: "" };
  messages.push(reply);
  const controller = new AbortController();
  running = controller;
  save(sessionStorage, "fledge.chat", messages); // a reload must not lose the question
  render();
  toEnd();
  $("status").textContent = text.writing;
  try {
    await write(reply, controller);
    $("status").textContent = text.finished;
  } catch (error) {
    if (error.name === "AbortError") reply.note = { end: "stopped" };
    else reply.error = explain(error);
    $("status").textContent = "";
  }
  if (running !== controller) return; // a new chat was begun meanwhile
  running = null;
  save(sessionStorage, "fledge.chat", messages);
  const stay = atEnd();
  render();
  if (stay) toEnd();
  $("input").focus({ preventScroll: true });
}

async function write(reply, controller) {
  model ??= await name();
  let began = null;
  const answers = whatFits(spoken(), (kept, room) => pieces(kept, room, controller.signal), left);
  for await (const piece of answers) {
    if (running !== controller) return; // a new chat was begun meanwhile
    if (left.turns) reply.left = { context: left.context };
    if (piece.text !== undefined) {
      began ??= performance.now();
      const stay = atEnd();
      reply.content += piece.text;
      if (piece.citations) {
        reply.citations = piece.all ? piece.citations : [...(reply.citations ?? []), ...piece.citations];
      }
      // Looked up each time: a change of language draws the conversation anew.
      $("log").lastElementChild.querySelector(".body").textContent = reply.content;
      if (stay) toEnd();
    } else {
      reply.note = noteOf(piece, began);
    }
  }
}

function noteOf({ finish, usage }, began) {
  const tokens = usage?.completion_tokens ?? 0;
  const seconds = began === null ? 0 : (performance.now() - began) / 1000;
  // The first token is there when the clock starts.
  const rate = tokens > 1 && seconds > 0 ? (tokens - 1) / seconds : 0;
  return {
    tokens,
    rate: rate ? rate.toFixed(rate < 10 ? 1 : 0) : null,
    end: finish === "length" ? "cut" : null,
  };
}

function explain(error) {
  if (error instanceof ApiError) {
    if (error.status === 401) return text.needsKey;
    if (error.status === 429) return fill(text.busy, error.retryAfter ?? "5");
    return error.message || text.brokeOff;
  }
  return error instanceof TypeError ? text.unreachable : String(error.message ?? error);
}

async function name() {
  const found = await modelName(settings.api_key);
  $("model").textContent = found;
  document.title = `${found} – fledge`;
  return found;
}

/** An answer that was being written when the page was closed or reloaded never came. */
function markBrokenOff() {
  const last = messages.at(-1);
  if (last?.role !== "assistant" || last.content || last.note || last.error) return;
  last.error = text.brokeOff;
  render();
}

function newChat() {
  running?.abort();
  running = null;
  messages = [];
  left = { turns: 0, context: null };
  save(sessionStorage, "fledge.chat", messages);
  render();
  $("input").focus();
}

// --- scrolling and the input -------------------------------------------------------------

function atEnd() {
  const view = $("scroll");
  return view.scrollHeight - view.scrollTop - view.clientHeight < 40;
}

function toEnd() {
  $("scroll").scrollTop = $("scroll").scrollHeight;
}

function grow() {
  const input = $("input");
  input.style.height = "auto";
  input.style.height = `${Math.min(input.scrollHeight, 200)}px`;
  showState();
}

function send() {
  if (running) return;
  const question = $("input").value;
  if (!question.trim()) return;
  $("input").value = "";
  grow();
  ask(question);
}

/** Enter sends, but not while an input method is composing (229: Safari's last Enter of it). */
function sends(event) {
  return event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229;
}

// --- settings ----------------------------------------------------------------------------

function showSettings() {
  for (const field of FIELDS) $(field).value = settings[field] ?? "";
  $("api_key").value = settings.api_key ?? "";
  $("settings").showModal();
}

function readSettings() {
  for (const field of NUMBERS) {
    const value = $(field).value === "" ? NaN : Number($(field).value);
    if (Number.isFinite(value) && $(field).checkValidity()) settings[field] = value;
    else delete settings[field];
  }
  settings.system = $("system").value;
  settings.api_key = $("api_key").value.trim();
  const { api_key: key, ...kept } = settings; // a key outlives the tab nowhere
  save(localStorage, "fledge.settings", kept);
  save(sessionStorage, "fledge.key", key);
}

function resetSettings() {
  for (const field of FIELDS) $(field).value = "";
  readSettings();
}

async function connect() {
  try {
    model = await name();
  } catch (error) {
    $("model").textContent = explain(error);
  }
}

// --- wiring ------------------------------------------------------------------------------

function start() {
  settings.api_key = load(sessionStorage, "fledge.key", "");
  $("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  $("input").addEventListener("input", grow);
  $("input").addEventListener("keydown", (event) => {
    if (!sends(event)) return;
    event.preventDefault();
    send();
  });
  $("stop").addEventListener("click", () => running?.abort());
  $("new").addEventListener("click", newChat);
  $("down").addEventListener("click", toEnd);
  $("scroll").addEventListener("scroll", () => ($("down").hidden = atEnd()));
  $("open-settings").addEventListener("click", showSettings);
  $("close-settings").addEventListener("click", () => $("settings").close());
  $("settings").addEventListener("input", readSettings);
  $("settings").addEventListener("close", () => model ?? connect());
  $("reset").addEventListener("click", resetSettings);
  $("language").addEventListener("input", (event) => {
    settings.language = event.target.value;
    applyLanguage();
  });
  $("theme").addEventListener("input", (event) => {
    settings.theme = event.target.value;
    applyTheme();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && running && !$("settings").open) running.abort();
  });
  applyTheme();
  applyLanguage();
  markBrokenOff();
  toEnd();
  grow();
  $("input").focus();
  connect();
}

start();
