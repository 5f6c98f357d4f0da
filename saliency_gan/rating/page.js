"use strict";
// The page knows only a direction's position in this rater's order.

const AHEAD = 2; // number of sheets that are loaded in advance
const token = new URLSearchParams(location.search).get("token");
const element = (id) => document.getElementById(id);
const questions = ["consistent", "one_factor"];

let rater = null;
let answers = []; // one per position, null if there is none yet
let position = 0;
let ready = false; // the sheet is on the screen and nothing is being saved
let prefetched = [];

start();

async function start() {
  const study = await request("study");
  element("total").textContent = study.directions;
  for (const shift of study.shifts) {
    const label = document.createElement("span");
    label.textContent = shift > 0 ? `+${shift}` : `${shift}`.replace("-", "−");
    label.className = shift === 0 ? "original" : "";
    element("axis").append(label);
  }
  const known = study.rater || decodeURIComponent(location.hash.slice(1));
  if (known) await begin(known);
  else show("welcome");
}

async function begin(name) {
  const session = await request("answers", { rater: name });
  ({ rater, answers } = session);
  history.replaceState(null, "", "#" + encodeURIComponent(rater)); // so that a reload continues
  element("rater").textContent = rater;
  next(answers.length);
}

function next(from) {
  // After the last direction, go to the directions that have no answer yet.
  const open = answers.indexOf(null);
  if (from < answers.length) go(from);
  else if (open >= 0) go(open);
  else finish();
}

async function go(to) {
  position = to;
  ready = false;
  show("study");
  const given = answers[position] || { consistent: false, one_factor: false, name: "" };
  for (const question of questions) set(question, given[question]);
  element("label").value = given.name;
  element("label").blur();
  element("back").disabled = position === 0;
  report();
  const shown = position;
  const sheet = element("sheet");
  sheet.classList.add("loading");
  sheet.src = sheetOf(position);
  try {
    await sheet.decode();
  } catch {
    if (shown === position) fail("The pictures could not be loaded. Is saliency-gan rate still running? Then load the page again.");
    return;
  }
  if (shown !== position) return; // the rater has moved to another position
  sheet.classList.remove("loading");
  ready = true;
  report();
  prefetch(position);
}

async function prefetch(from) {
  // Load one after the other, so that the next sheet does not wait for later ones.
  prefetched = [];
  for (let ahead = from + 1; ahead <= from + AHEAD && ahead < answers.length && from === position; ahead++) {
    const image = Object.assign(new Image(), { src: sheetOf(ahead) });
    prefetched.push(image);
    await image.decode().catch(() => {});
  }
}

async function save() {
  if (!ready) return;
  ready = false;
  const at = position; // the rater may go back while the answer is being saved
  const answer = { consistent: isYes("consistent"), one_factor: isYes("one_factor") };
  answer.name = answer.consistent && answer.one_factor ? element("label").value.trim() : "";
  try {
    await request("answer", {}, { rater, position: at, ...answer });
  } catch {
    ready = position === at; // the page shows the reason and keeps the answer
    return;
  }
  answers[at] = answer;
  if (position === at) next(at + 1);
  else report();
}

function finish() {
  ready = false;
  position = answers.length;
  show("done");
  report();
}

function back() {
  if (position > 0) go(position - 1);
}

function set(question, yes) {
  element(question).setAttribute("aria-checked", yes);
  const both = questions.every(isYes);
  element("naming").hidden = element("naming-hint").hidden = !both;
}

function isYes(question) {
  return element(question).getAttribute("aria-checked") === "true";
}

function toggle(question) {
  set(question, !isYes(question));
}

function report() {
  const answered = answers.filter(Boolean).length;
  element("progress").max = answers.length;
  element("progress").value = answered;
  element("count").textContent = `${answered} of ${answers.length} answered`;
  element("save").disabled = !ready;
}

function show(part) {
  for (const id of ["welcome", "study", "done"]) element(id).hidden = id !== part;
  element("progress").hidden = part === "welcome";
  if (part === "welcome") element("name").focus();
}

function sheetOf(at) {
  return address("sheet.jpg", { rater, position: at });
}

function address(path, values) {
  return path + "?" + new URLSearchParams({ token, ...values });
}

async function request(path, values = {}, body = null) {
  const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let response, reply;
  try {
    response = await fetch(address(path, values), options || {});
    reply = await response.json();
  } catch {
    throw fail("No answer: is saliency-gan rate still running in the terminal?");
  }
  if (!response.ok) throw fail(reply.error);
  element("error").hidden = true;
  return reply;
}

function fail(sentence) {
  element("error").textContent = sentence;
  element("error").hidden = false;
  return new Error(sentence);
}

element("welcome").addEventListener("submit", (event) => {
  event.preventDefault();
  begin(element("name").value).catch(() => element("name").focus());
});
for (const question of questions) {
  element(question).addEventListener("click", () => toggle(question));
}
element("save").addEventListener("click", save);
element("back").addEventListener("click", back);
element("review").addEventListener("click", back);

document.addEventListener("keydown", (event) => {
  if (!rater || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target === element("label")) {
    if (event.key === "Enter") save();
    if (event.key === "Escape") element("label").blur();
    return;
  }
  const actions = {
    1: () => toggle("consistent"),
    2: () => toggle("one_factor"),
    n: () => element("naming").hidden || element("label").focus(),
    " ": save,
    Backspace: back,
  };
  const done = element("study").hidden;
  if (!(event.key in actions) || (done && event.key !== "Backspace")) return;
  event.preventDefault();
  actions[event.key]();
});
document.addEventListener("keyup", (event) => {
  // A focused button would treat the space bar as a click.
  if (event.key === " " && event.target instanceof HTMLButtonElement) event.preventDefault();
});
