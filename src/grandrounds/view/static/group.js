// The group viewer: one case, its completions side by side.
import { address, count, foreign, getJson, h, heard, number, percent, signed, visible } from "./dom.js";
import { shade, strip, verdict } from "./list.js";

const VISITS = 12; // of one case, shown beside each other
const MARKS = { present: "present in the case", absent: "absent in the case", invented: "not in the case" };

export async function drawGroup(state, path, parameters) {
  const [run, round, group] = path.map(Number);
  const found = state.runs[run];
  if (!found) return [h("p", {}, "There is no such run.")];
  const got = await getJson(`api/runs/${run}/groups/${round}/${group}`);
  const place = { run, round, group, kind: found, got, several: state.runs.length > 1 };
  const samples = got.samples.map((sample) => completion(place, sample, parameters.sample === String(sample.sample)));
  const grid = h("div", { class: "group", id: "completions" }, samples);
  return [
    h("section", { "aria-labelledby": "h-case", class: "first" }, steps(place), ask(place), history(place)),
    h("section", { "aria-labelledby": "h-completions" },
      h("h2", { id: "h-completions" }, count(got.samples.length, "completion")),
      legend(place, grid), grid),
  ];
}

function steps({ run, round, group, got, kind, several }) {
  return h("nav", { class: "pages", id: "steps", "aria-label": "Groups" }, step("‹ Before", "prev", run, got.before),
    h("span", {}, `Round ${round}, group ${group + 1}`), step("Next ›", "next", run, got.after),
    h("a", { class: "button", href: address("groups", { run }) }, "All groups"),
    several ? foreign("span", { class: "small soft" }, kind.name) : null);
}

function step(label, rel, run, target) {
  if (!target) return h("span", { class: "button off", "data-step": rel }, label);
  return h("a", { class: "button", rel, href: address(`group/${run}/${target[0]}/${target[1]}`) }, label);
}

// What was the last group may have one after it by now. The rest of the view stays as it is.
export async function renewNext([run, round, group]) {
  const off = document.querySelector("#steps [data-step=next]");
  if (!off) return;
  const { after } = await getJson(`api/runs/${run}/groups/${round}/${group}`);
  if (after) off.replaceWith(step("Next ›", "next", run, after));
}

function ask({ run, round, group, got }) {
  const whole = `api/runs/${run}/text/${round}/${group}/prompt`;
  return h("div", { class: "case card" }, h("div", { class: "ask" },
    h("h2", { id: "h-case" }, "Case ", foreign("span", {}, got.case_id)),
    marked("p", { class: "question" }, got.question),
    got.question_characters > pieceLength(got.question) ? h("p", { class: "small soft" }, `The first ${pieceLength(got.question).toLocaleString("en")} of ${got.question_characters.toLocaleString("en")} characters.`) : null,
    got.elsewhere.length ? h("p", { class: "small" }, h("span", { class: "soft" }, "Findings in other words: "), got.elsewhere.map(([fact, state], place) => [place ? ", " : "", h("mark", { class: state, title: MARKS[state] }, visible(fact))])) : null,
    got.gold !== null ? h("p", { class: "goldline" }, h("span", { class: "soft" }, "Gold answer: "), foreign("strong", {}, got.gold)) : null,
    got.question_is_prompt ? null : h("details", {}, h("summary", {}, "The prompt as the model got it"),
      foreign("pre", {}, got.prompt), more(got.prompt.length, got.prompt_characters, whole, " of the prompt"))));
}

function history({ run, round, group, got }) {
  const all = got.history;
  if (all.length < 2) return null;
  const isHere = (one) => one.round === round && one.group === group;
  const from = Math.max(0, Math.min(all.findIndex(isHere) - VISITS / 2, all.length - VISITS));
  const rows = all.slice(from, from + VISITS).map((one) => {
    const here = isHere(one);
    return h("li", {}, h("a", { href: address(`group/${run}/${one.round}/${one.group}`), "aria-current": here ? "true" : null },
      h("span", { class: "small" }, `Round ${one.round}`), strip(one.advantages, one.verdicts),
      h("span", { class: "small soft" }, `${one.judged ? `${one.right} of ${one.judged} right, ` : ""}reward ${number(one.reward)}`)));
  });
  return h("div", { class: "card over" }, h("h3", {}, "The same case over the rounds"),
    h("ol", { class: "history" }, rows),
    h("a", { class: "small", href: address("groups", { run, case: got.case_id }) }, rows.length < all.length ? `All ${all.length.toLocaleString("en")} as a list` : "As a list"));
}

function legend({ got, kind }, grid) {
  const known = got.samples.some((sample) => sample.findings.length);
  const marks = known ? [h("span", { class: "small soft" }, "Findings: "), Object.entries(MARKS).map(([name, label]) =>
    h("span", { class: "small" }, h("mark", { class: name }, name === "invented" && !got.facts_known ? "not found in the prompt" : label)))] : [h("span", { class: "small soft" }, "No findings are cited in a form that can be checked.")];
  const toggle = h("button", { type: "button", "aria-pressed": "false", disabled: !got.tokens_known,
    click: () => { const on = grid.classList.toggle("tokens"); toggle.setAttribute("aria-pressed", String(on)); } }, "Shade tokens by log-probability");
  return h("div", { class: "key" }, marks, toggle,
    got.tokens_known ? h("span", { class: "small soft" }, "The stronger the shade, the less likely the token was when it was sampled.")
      : h("span", { class: "small soft" }, kind.kind === "TRL" ? "TRL keeps no token log-probabilities." : "This run keeps no token log-probabilities (recipe: rollouts.tokens)."));
}

function completion(place, sample, chosen) {
  const { got, run, round, group } = place;
  const most = Math.max(1e-9, ...got.samples.map((one) => Math.abs(one.advantage ?? 0)));
  const head = h("div", { class: "who" }, h("h3", {}, `Completion ${sample.sample + 1}`),
    sample.correct === null ? null : h("span", { class: `tag ${sample.correct ? "right" : "wrong"}` }, verdict(sample.correct)),
    h("span", { class: "small soft" }, `${number(sample.length)} ${place.kind.length_unit}${sample.finish === "length" ? ", cut off" : ""}`));
  const worth = h("div", { class: "worth" }, h("span", {}, "Advantage ", h("b", {}, signed(sample.advantage))), h("span", {}, "Reward ", h("b", {}, number(sample.reward))));
  shade(worth, sample.advantage, most);
  const text = marked("div", { class: "text plain", tabindex: 0, role: "group", "aria-label": `Text of completion ${sample.sample + 1}` }, sample.text);
  const shown = pieceLength(sample.text);
  return h("article", { class: "card completion", "aria-label": `Completion ${sample.sample + 1}`, "data-chosen": chosen },
    worth, head, answer(place, sample), defects(sample), text, sample.tokens ? tokens(sample) : null,
    more(shown, sample.characters, `api/runs/${run}/text/${round}/${group}/${sample.sample}`, ` of completion ${sample.sample + 1}`, text),
    findings(sample, got), components(sample), extras(sample));
}

// TRL asks for no answer in tags: there is none to miss.
function answer({ got, kind }, sample) {
  const right = sample.correct === null ? "" : sample.correct ? "right" : "wrong";
  const given = sample.answer === null ? kind.kind === "TRL" ? null : h("p", { class: `answer ${right || "wrong"}` }, "No answer given") : foreign("p", { class: "answer " + right }, sample.answer);
  const gold = got.gold === null ? null : h("p", { class: "small" }, h("span", { class: "soft" }, "Gold: "), foreign("span", {}, got.gold),
    sample.given && sample.given !== sample.answer ? [h("span", { class: "soft" }, "; understood as "), foreign("span", {}, sample.given)] : null);
  return [given, gold];
}

function defects(sample) {
  return sample.defects.length ? h("ul", { class: "remarks" }, sample.defects.map((defect) => foreign("li", { class: "bad" }, "⚠ " + defect))) : null;
}

function components(sample) {
  const rows = sample.components.map((one) => h("tr", {},
    h("th", { scope: "row" }, foreign("span", {}, one.name), note(one.note, ` (${one.name}, completion ${sample.sample + 1})`)),
    h("td", { class: "number" }, one.score === null ? h("span", { class: "soft", title: "does not apply" }, "n/a") : number(one.score)),
    h("td", { class: "number soft" }, one.gate ? "gate" : one.weight === null ? "" : "× " + number(one.weight))));
  return rows.length ? h("table", { class: "components" }, h("caption", { class: "skip" }, "Reward by component"),
    h("thead", { class: "skip" }, h("tr", {}, ["Component", "Score", "Weight"].map((head) => h("th", { scope: "col" }, head)))), h("tbody", {}, rows)) : null;
}

// What decided a score: a word, or everything that does not hold.
function note(text, of) {
  if (!text) return null;
  if (text.length <= 60) return foreign("span", { class: "hint" }, text);
  return h("details", { class: "hint" }, h("summary", {}, foreign("span", {}, text.slice(0, 40) + "…"), heard(of)), foreign("span", {}, text));
}

function extras(sample) {
  return sample.extras.length ? h("dl", { class: "about small" }, sample.extras.map(([name, value]) => [foreign("dt", {}, name), foreign("dd", {}, value ?? "—")])) : null;
}

function findings(sample, got) {
  if (!sample.findings.length) return null;
  const of = (state) => sample.findings.filter(([, one]) => one === state).length;
  const invented = got.facts_known ? MARKS.invented : "not found in the prompt";
  return h("p", { class: "small soft" }, `Cites ${count(sample.findings.length, "finding")}: ${of("present")} present, ${of("absent")} absent, ${of("invented")} ${invented}.`);
}

// Pieces [text, mark], as text with marked parts.
function marked(tag, attributes, pieces) {
  return h(tag, { dir: "auto", ...attributes }, pieces.map(([text, mark]) => mark ? h("mark", { class: mark, title: MARKS[mark] }, visible(text)) : visible(text)));
}

function pieceLength(pieces) {
  return pieces.reduce((sum, [text]) => sum + [...text].length, 0);
}

// Each token shaded by its surprise, -log p: full shade at 5 nats, a probability below 0.7 %.
function tokens(sample) {
  return h("div", { class: "text shaded", dir: "auto", tabindex: 0, role: "group", "aria-label": `Tokens of completion ${sample.sample + 1}` }, sample.tokens.map(([text, logprob]) => {
    const part = Math.min(1, -(logprob ?? 0) / 5);
    const token = h("span", { title: logprob === null ? "no log-probability" : `log p ${logprob.toFixed(3)}, p ${percent(Math.exp(logprob))}` }, visible(text));
    if (part > 0.02) token.style.setProperty("--part", Math.round(80 * part) + "%");
    return token;
  }));
}

function more(shown, all, target, of, into) {
  if (shown >= all) return null;
  const button = h("button", { type: "button", click: async () => {
    const whole = wholeText(await (await fetch(target)).text());
    (into ?? button.previousElementSibling).replaceWith(whole);
    button.remove();
    whole.focus({ preventScroll: true }); // the button had it
  } }, `Show all ${all.toLocaleString("en")} characters`, heard(of));
  return button;
}

// A long text in blocks, of which the browser lays out only those in sight. A block ends with a line where one does.
function wholeText(text) {
  const blocks = text.match(/[^]{1,5000}(?:\n|$)|[^]{5000}/gu) ?? [];
  return h("div", { class: "text whole", dir: "auto", tabindex: 0, role: "group", "aria-label": "The whole text" },
    blocks.map((block) => h("div", {}, visible(block.replace(/\n$/, "")))));
}
