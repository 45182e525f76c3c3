// The list of groups or completions: filters, search, order, pages.
import { address, count, foreign, getJson, h, number, signed } from "./dom.js";

export async function drawList(state, parameters) {
  const chosen = { run: "0", filter: "all", search: "", order: "", unit: "groups", case: "", page: "1", ...parameters };
  const run = state.runs[Number(chosen.run)];
  if (!run) return [h("p", {}, "There is no such run.")];
  const groups = chosen.unit !== "completions";
  const query = new URLSearchParams({ filter: chosen.filter, search: chosen.search, case: chosen.case, order: chosen.order, groups, page: chosen.page });
  const started = performance.now();
  const found = await getJson(`api/runs/${run.number}/completions?${query}`);
  const go = (changes) => { location.hash = address("groups", { ...chosen, page: "1", ...changes }); };
  const head = h("h2", { id: "h-groups" }, "What was sampled, and what it earned");
  const told = h("p", { id: "found", role: "status" },
    `${count(found.completions, "completion")} in ${count(found.groups, "group")}` + (chosen.filter === "all" && !chosen.search && !chosen.case ? "" : `, of ${count(run.completions, "completion")}`));
  told.dataset.milliseconds = Math.round(performance.now() - started);
  return [h("section", { "aria-labelledby": "h-groups", class: "first" },
    head, controls(state, run, chosen, go), filterBar(run, chosen, go), told,
    chosen.case ? h("p", { class: "small" }, "Only the case ", foreign("strong", {}, chosen.case), " ", h("button", { type: "button", click: () => go({ case: "" }) }, "All cases")) : null,
    found.rows.length ? table(run, found.rows, groups) : h("p", { class: "card soft" }, nothing(run, chosen)),
    pages(found, chosen))];
}

function nothing(run, chosen) {
  if (!run.completions) return "Nothing has been sampled yet.";
  return chosen.filter === "all" ? "Nothing has this text." : "No completion is like this. That is usually good news.";
}

function controls(state, run, chosen, go) {
  const runs = state.runs.length > 1
    ? h("label", {}, h("span", {}, "Run"), h("select", { change: (event) => go({ run: event.target.value, filter: "all", case: "" }) },
        state.runs.map((one) => foreign("option", { value: one.number, selected: one.number === run.number }, one.name))))
    : null;
  const order = h("label", {}, h("span", {}, "Order"), h("select", { id: "order", change: (event) => go({ order: event.target.value }) },
    Object.entries({ "": "As fits the filter", ...state.orders }).map(([name, label]) => h("option", { value: name, selected: name === chosen.order }, label))));
  const unit = h("label", {}, h("span", {}, "Rows"), h("select", { id: "unit", change: (event) => go({ unit: event.target.value }) },
    [["groups", "Groups"], ["completions", "Completions"]].map(([name, label]) => h("option", { value: name, selected: name === chosen.unit }, label))));
  const field = h("input", { type: "search", id: "search", value: chosen.search, maxlength: 1000, autocomplete: "off", spellcheck: "false" });
  return h("form", { class: "controls", role: "search", submit: (event) => { event.preventDefault(); go({ search: field.value }); } },
    runs, h("label", { class: "grow" }, h("span", {}, "Search prompts, completions and case ids"), field), h("button", { type: "submit" }, "Search"), order, unit);
}

function filterBar(run, chosen, go) {
  const help = run.filters.find((filter) => filter.name === chosen.filter)?.help ?? "";
  return [h("div", { class: "filter", role: "group", "aria-label": "Filter" }, run.filters.map((filter) =>
    h("button", { type: "button", "data-filter": filter.name, "aria-pressed": String(filter.name === chosen.filter), disabled: !filter.available,
      title: filter.available ? filter.help : "This run does not keep what it needs: " + filter.help, click: () => go({ filter: filter.name, order: "" }) }, filter.label))),
    h("p", { class: "small soft" }, help)];
}

function table(run, rows, groups) {
  const unit = run.length_unit;
  const heads = groups
    ? ["Round·group", "Case", "Gold answer", "Most given answer", "Right", "Mean reward", "Advantages", `Longest, ${unit}`]
    : ["Round·group", "Case", "Gold answer", "Answer", "Right", "Reward", "Advantage", `Length, ${unit}`];
  return h("div", { class: "card scroll" }, h("table", { class: "stack lines list" },
    h("caption", { class: "skip" }, groups ? "Groups" : "Completions"),
    h("thead", {}, h("tr", {}, heads.map((head, place) => h("th", { scope: "col", class: place > 3 && place !== 6 ? "number" : null }, head)))),
    h("tbody", {}, rows.map((row) => line(run, row, groups, heads)))));
}

function line(run, row, groups, heads) {
  const scale = groups ? row.advantages : [row.advantage];
  const cells = [
    foreign("td", {}, row.case_id),
    foreign("td", {}, row.gold ?? "—"),
    h("td", {}, h("span", {}, foreign("span", {}, row.answer ?? "—"), groups && row.answers > 1 ? h("span", { class: "soft small" }, ` and ${count(row.answers - 1, "other")}`) : null)),
    h("td", { class: "number" }, groups ? (row.judged ? `${row.right} of ${row.judged}` : "—") : verdict(row.correct)),
    h("td", { class: "number" }, number(row.reward)),
    h("td", {}, groups ? strip(scale, row.verdicts) : h("span", { class: "adv" }, signed(row.advantage))),
    h("td", { class: "number" }, number(row.length)),
  ];
  cells.forEach((cell, place) => { cell.dataset.label = heads[place + 1]; });
  const to = address(`group/${run.number}/${row.round}/${row.group}`, groups ? {} : { sample: row.sample });
  return h("tr", {}, h("th", { scope: "row" }, h("a", { href: to, "aria-label": `${row.round}·${row.group + 1}: round ${row.round}, group ${row.group + 1}${groups ? "" : `, completion ${row.sample + 1}`}` }, `${row.round}·${row.group + 1}`)), cells);
}

export function verdict(correct) {
  if (correct === null || correct === undefined) return "—";
  return correct ? "✓ right" : "✗ wrong";
}

// A cell for each completion, coloured by its advantage.
export function strip(advantages, verdicts) {
  const most = Math.max(1, ...advantages.map((value) => Math.abs(value ?? 0)));
  const words = advantages.map((value, place) => signed(value) + (verdicts?.[place] === true ? " right" : verdicts?.[place] === false ? " wrong" : "")).join(", ");
  return h("span", { class: "strip", role: "img", "aria-label": "Advantages: " + words, title: words },
    advantages.map((value) => { const cell = h("i", {}); shade(cell, value, most); return cell; }));
}

export function shade(element, advantage, most) {
  const part = Math.min(1, Math.abs(advantage ?? 0) / (most || 1));
  element.classList.add(advantage > 0 ? "up" : advantage < 0 ? "down" : "level");
  element.style.setProperty("--part", Math.round(12 + 78 * part) + "%");
}

function pages(found, chosen) {
  const page = Number(chosen.page);
  if (found.pages <= 1) return null;
  const to = (label, target, name) => target >= 1 && target <= found.pages && target !== page
    ? h("a", { class: "button", href: address("groups", { ...chosen, page: target }), "aria-label": name }, label) : h("span", { class: "button off", "aria-hidden": "true" }, label);
  const field = h("input", { type: "number", id: "page", min: 1, max: found.pages, value: page, "aria-label": "Page",
    change: (event) => { location.hash = address("groups", { ...chosen, page: Math.max(1, Math.min(found.pages, Math.round(Number(event.target.value)) || 1)) }); } });
  return h("nav", { class: "pages", "aria-label": "Pages" }, to("«", 1, "First page"), to("‹ Before", page - 1, "Page before"),
    h("span", {}, "Page ", field, ` of ${found.pages.toLocaleString("en")}`), to("Next ›", page + 1, "Next page"), to("»", found.pages, "Last page"));
}
