"use strict";
// Everything that a model wrote goes through `visible` and `textContent`: it is shown, never interpreted.

const byId = (id) => document.getElementById(id);
// Controls, directions and characters without width. They are named, so that nothing hides or turns around.
const HIDDEN =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;
const LONGEST_MARKED = 200000; // characters; longer texts are shown without highlighting
let running = null; // the AbortController of the questions that are being answered

const visible = (text) =>
  text.replace(HIDDEN, (character) => `⟨U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);

function element(name, className = "", text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

function say(text, isError = false) {
  byId("status").textContent = visible(text);
  byId("status").className = isError ? "error" : "";
}

function headers() {
  const key = byId("key").value;
  return { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
}

async function request(path, body, signal) {
  const answer = await fetch(path, {
    method: body ? "POST" : "GET",
    headers: headers(),
    body: body && JSON.stringify(body),
    signal,
  });
  if (!answer.ok) {
    const told = await answer.json().catch(() => null);
    throw Object.assign(new Error(told?.error?.message ?? `HTTP ${answer.status}`), { status: answer.status });
  }
  return answer;
}

async function loadModels() {
  const listed = await (await request("/v1/models")).json();
  const chosen = new Set([...document.querySelectorAll("#models input:not(:checked)")].map((box) => box.value));
  byId("models").querySelectorAll("label").forEach((label) => label.remove());
  for (const { id } of listed.data) {
    const label = element("label");
    const box = element("input");
    Object.assign(box, { type: "checkbox", value: id, checked: !chosen.has(id) });
    label.append(box, ` ${visible(id)}`);
    byId("models").append(label);
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
    for (const line of lines) {
      if (line.startsWith("data: ") && line !== "data: [DONE]") yield JSON.parse(line.slice(6));
    }
  }
}

// One model's column: its votes, and one block for each sample.
function column(model, samples) {
  const article = element("article");
  const votes = element("div");
  article.append(element("h2", "", visible(model)), votes);
  const blocks = [];
  for (let number = 0; number < samples; number += 1) {
    const block = element("details");
    block.open = number < 3;
    const title = element("summary", "", samples > 1 ? `Sample ${number + 1}` : "Response");
    const [reasoning, answer, note] = ["text reasoning", "text answer", "note"].map((name) => element("div", name));
    block.append(title, element("h3", "", "Reasoning"), reasoning, element("h3", "", "Answer"), answer, note);
    article.append(block);
    blocks.push({ title, reasoning, answer, note, said: { reasoning: "", answer: "" }, changed: false });
  }
  byId("answers").append(article);
  return { votes, blocks };
}

function take(blocks, event) {
  if (event.error) throw new Error(event.error.message);
  for (const choice of event.choices) {
    const block = blocks[choice.index];
    block.said.reasoning += choice.delta.reasoning ?? "";
    block.said.answer += choice.delta.content ?? "";
    block.changed = true;
    if (choice.delta.refusal) block.note.textContent = visible(choice.delta.refusal);
    if (choice.finish_reason === "length") block.note.textContent += " Cut off at the maximum length.";
    if (choice.repaired) block.note.textContent += " Brought back to its form.";
  }
}

function draw(blocks) {
  for (const block of blocks.filter((one) => one.changed)) {
    block.reasoning.textContent = visible(block.said.reasoning);
    block.answer.textContent = visible(block.said.answer);
    block.changed = false;
  }
}

async function ask(model, body, samples, signal) {
  const { votes, blocks } = column(model, samples);
  const timer = setInterval(() => draw(blocks), 100);
  try {
    const answer = await request("/v1/chat/completions", { ...body, model, n: samples, stream: true }, signal);
    for await (const event of events(answer)) take(blocks, event);
  } finally {
    clearInterval(timer);
    draw(blocks);
  }
  const responses = blocks.map((block) => ({ reasoning: block.said.reasoning, answer: block.said.answer }));
  const read = await (await request("/playground/read", { responses }, signal)).json();
  read.responses.forEach((named, number) => {
    const { reasoning, said } = blocks[number];
    if (said.reasoning) mark(reasoning, said.reasoning, named);
    else reasoning.textContent = "none";
  });
  if (samples > 1) showVotes(votes, read.votes, samples);
  return read.responses;
}

function showVotes(place, votes, samples) {
  place.append(element("h3", "", `Vote of ${samples} samples`));
  for (const { answer, count } of votes.slice(0, 10)) {
    const row = element("div", "vote");
    const meter = element("meter");
    Object.assign(meter, { min: 0, max: samples, value: count });
    row.append(element("span", "text", visible(answer)), meter, element("span", "", `${count} of ${samples}`));
    place.append(row);
  }
  if (!votes.length) place.append(element("p", "note", "No sample has an answer."));
}

// Shows a text with the named findings marked. Longer findings win over shorter ones within them.
function mark(place, text, named) {
  const kinds = new Map();
  const add = (findings, kind) => findings.forEach((finding) => kinds.set(finding.toLowerCase(), kind));
  add(named.findings, "");
  add(named.supports, "for");
  add(named.contradicts, "against");
  const words = [...kinds.keys()].filter((word) => word.length > 2).sort((one, two) => two.length - one.length);
  if (!words.length || text.length > LONGEST_MARKED) {
    place.textContent = visible(text);
    return;
  }
  const escaped = words.slice(0, 200).map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const pattern = new RegExp(`(?<![\\p{L}\\p{N}])(${escaped.join("|")})(?![\\p{L}\\p{N}])`, "giu");
  place.replaceChildren(
    ...text.split(pattern).map((part, number) =>
      number % 2 ? element("mark", kinds.get(part.toLowerCase()) ?? "", visible(part)) : visible(part),
    ),
  );
}

function number(id) {
  const value = byId(id).value;
  return value === "" ? undefined : Number(value);
}

async function askAll(event) {
  event.preventDefault();
  const models = [...document.querySelectorAll("#models input:checked")].map((box) => box.value);
  const question = byId("question").value;
  if (!models.length) return say("Choose a model.", true);
  running = new AbortController();
  byId("answers").replaceChildren();
  byId("shown-case").hidden = byId("legend").hidden = true;
  byId("go").disabled = !(byId("stop").disabled = false);
  say("Asking …");
  const body = {
    messages: [{ role: "user", content: question }],
    temperature: number("temperature"),
    seed: number("seed"),
  };
  const samples = Math.max(1, number("samples") ?? 1);
  const done = await Promise.allSettled(models.map((model) => ask(model, body, samples, running.signal)));
  byId("go").disabled = !(byId("stop").disabled = true);
  const failed = done.filter((one) => one.status === "rejected").map((one) => one.reason);
  if (failed.some((error) => error.status === 401)) byId("key-row").hidden = false;
  const named = done.flatMap((one) => one.value ?? []);
  if (named.some((one) => one.findings.length)) showCase(question, named);
  if (failed.length) say(running.signal.aborted ? "Stopped." : failed[0].message, !running.signal.aborted);
  else say("Done.");
}

function showCase(question, named) {
  const findings = named.flatMap((one) => one.findings.map((finding) => finding.replace(/^no /i, "")));
  const text = element("div", "text");
  mark(text, question, { findings, supports: [], contradicts: [] });
  byId("shown-case").replaceChildren(element("h3", "", "The case, with the findings that were named"), text);
  byId("shown-case").hidden = byId("legend").hidden = false;
}

async function begin() {
  try {
    await loadModels();
    say("");
  } catch (error) {
    if (error.status === 401) byId("key-row").hidden = false;
    say(error.status === 401 ? "This server asks for an API key." : error.message, error.status !== 401);
  }
}

byId("ask").addEventListener("submit", askAll);
byId("stop").addEventListener("click", () => running?.abort());
byId("key").addEventListener("change", begin);
begin();
