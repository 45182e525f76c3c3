// The playground: asks the chosen models, shows what they write as it comes, then marks findings and counts votes.
import { count, foreign, h, heard, number, visible } from "./dom.js";

const byId = (id) => document.getElementById(id);
const MARKS = { present: "present in the question", absent: "absent, says the question", invented: "not found in the question's words" };
const OPEN = 3; // samples that are unfolded at first
const DRAWN = 100; // milliseconds between two drawings of what came
let running = null; // the AbortController of the questions that are being answered

function say(text, wrong = false) {
  byId("status").textContent = visible(text);
  byId("status").className = wrong ? "wrong" : "soft";
}

async function request(path, body, signal) {
  const key = byId("key").value;
  const headers = { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  const answer = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal });
  if (answer.ok) return answer;
  if (answer.status === 401) byId("key-row").hidden = false;
  const told = await answer.json().catch(() => null);
  throw new Error(told?.error?.message ?? `The server answered ${answer.status}.`);
}

async function begin() {
  try {
    const listed = await (await request("v1/models")).json();
    const boxes = listed.data.map(({ id }) => h("label", {}, h("input", { type: "checkbox", value: id, checked: true }), foreign("span", {}, id)));
    byId("models").replaceChildren(h("legend", {}, "Models"), ...boxes);
    say("");
  } catch (error) {
    say(error.message, true);
  }
}

async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data: {")) yield JSON.parse(line.slice(6));
  }
}

// A model's column: its name, votes and samples.
function column(model, samples) {
  const blocks = Array.from({ length: samples }, (_, place) => block(model, place, samples));
  const votes = h("div", {}), about = h("p", { class: "small soft" });
  byId("answers").append(h("article", { class: "card model", "aria-label": visible(model) },
    foreign("h2", {}, model), about, votes, blocks.map((one) => one.whole)));
  return { votes, about, blocks };
}

function block(model, place, samples) {
  const name = samples > 1 ? `Sample ${place + 1}` : "Response";
  const reasoning = h("div", { class: "text", dir: "auto", tabindex: 0, role: "group", "aria-label": `Reasoning, ${name.toLowerCase()} of ${visible(model)}` });
  const answer = h("p", { class: "answer", dir: "auto" }), note = h("p", { class: "small soft" });
  const whole = h("details", { open: place < OPEN }, h("summary", {}, name, heard(" of " + model)),
    h("p", { class: "part" }, "Reasoning"), reasoning, h("p", { class: "part" }, "Answer"), answer, note);
  return { whole, reasoning, answer, note, said: { reasoning: "", answer: "" }, notes: [], changed: false };
}

function take(blocks, event) {
  if (event.error) throw new Error(event.error.message);
  for (const choice of event.choices) {
    const one = blocks[choice.index];
    one.said.reasoning += choice.delta.reasoning ?? "";
    one.said.answer += choice.delta.content ?? "";
    if (choice.delta.refusal) one.notes.push(choice.delta.refusal);
    if (choice.finish_reason === "length") one.notes.push("The maximum length was reached.");
    if (choice.repaired) one.notes.push("Brought back to its form.");
    one.changed = true;
  }
}

function draw(blocks) {
  for (const one of blocks.filter((block) => block.changed)) {
    one.reasoning.textContent = visible(one.said.reasoning);
    one.answer.textContent = visible(one.said.answer);
    one.note.textContent = visible(one.notes.join(" "));
    one.changed = false;
  }
}

// Asks one model; returns what is to be marked.
async function ask(model, body, signal) {
  const { votes, about, blocks } = column(model, body.n);
  const timer = setInterval(() => draw(blocks), DRAWN), began = performance.now();
  let tokens = 0;
  try {
    const answer = await request("v1/chat/completions", { ...body, model }, signal);
    for await (const event of events(answer)) {
      take(blocks, event);
      tokens = event.usage?.completion_tokens ?? tokens;
    }
    about.textContent = `${count(tokens, "token")} in ${number((performance.now() - began) / 1000)} s`;
  } catch (error) {
    about.textContent = visible(signal.aborted ? "Stopped." : error.message);
    throw error;
  } finally {
    clearInterval(timer);
    draw(blocks);
  }
  for (const one of blocks.filter((block) => !block.said.reasoning)) one.reasoning.textContent = "No reasoning.";
  return { votes, blocks };
}

const marked = (pieces) => pieces.map(([text, mark]) => (mark ? h("mark", { class: mark, title: MARKS[mark] }, visible(text)) : visible(text)));

async function markAll(question, columns, signal) {
  const models = columns.map(({ blocks }) => blocks.map((one) => one.said));
  const read = await (await request("playground/read", { question, models }, signal)).json();
  columns.forEach(({ votes, blocks }, place) => {
    const { reasonings, votes: counted } = read.models[place];
    blocks.forEach((one, sample) => reasonings[sample].length && one.reasoning.replaceChildren(...marked(reasonings[sample])));
    if (blocks.length > 1) votes.replaceChildren(...poll(counted, blocks.length));
  });
  byId("marked").replaceChildren(...marked(read.question));
  byId("asked").hidden = false;
}

function poll(counted, samples) {
  const rows = counted.slice(0, 10).map(({ answer, count: many }) => h("div", { class: "vote" }, foreign("span", {}, answer),
    h("meter", { min: 0, max: samples, value: many, "aria-label": `${many} of ${samples}` }), h("span", { class: "small soft" }, `${many} of ${samples}`)));
  const rest = counted.length > 10 ? h("p", { class: "small soft" }, `and ${count(counted.length - 10, "further answer")}`) : "";
  return [h("p", { class: "part" }, `Vote of ${samples} samples`), ...(rows.length ? rows : ["No sample has an answer."]), rest];
}

function setting(id) {
  const value = byId(id).value;
  return value === "" ? undefined : Number(value);
}

async function askAll(event) {
  event.preventDefault();
  const models = [...document.querySelectorAll("#models input:checked")].map((box) => box.value);
  if (!models.length) return say("Choose a model.", true);
  running?.abort();
  const own = (running = new AbortController());
  const question = byId("question").value;
  const body = { messages: [{ role: "user", content: question }], temperature: setting("temperature"), seed: setting("seed"),
    n: setting("samples"), stream: true, stream_options: { include_usage: true } };
  byId("answers").replaceChildren();
  byId("asked").hidden = true;
  byId("stop").hidden = false;
  say("Asking…");
  const done = await Promise.allSettled(models.map((model) => ask(model, body, own.signal)));
  const columns = done.filter((one) => one.value).map((one) => one.value);
  let wrong = done.find((one) => one.reason)?.reason;
  if (columns.length && !own.signal.aborted) await markAll(question, columns, own.signal).catch((error) => (wrong ??= error));
  if (running !== own) return; // another question was asked meanwhile
  if (document.activeElement === byId("stop")) byId("go").focus();
  byId("stop").hidden = true;
  if (own.signal.aborted) say("Stopped.");
  else say(wrong ? wrong.message : "Done.", Boolean(wrong));
}

byId("ask").addEventListener("submit", askAll);
byId("stop").addEventListener("click", () => running?.abort());
byId("key").addEventListener("change", begin);
byId("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) byId("ask").requestSubmit();
});
begin();
