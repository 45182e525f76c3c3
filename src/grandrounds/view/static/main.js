// The page: which view the address names, and what changed on the server.
import { Charts, Curves } from "./charts.js";
import { count, foreign, getJson, h, renew, visible } from "./dom.js";
import { drawGroup, renewNext } from "./group.js";
import { drawList } from "./list.js";
import { RunCard } from "./runs.js";

const COLOURS = [2, 1, 4, 3, 5, 0];
const QUIET = 30_000; // milliseconds between two announcements of rounds to a screen reader
const main = document.getElementById("main"), live = document.getElementById("live");
const state = { runs: [], orders: {}, curves: null, charts: null, cards: new Map(), hidden: new Set() };
let drawn = 0;

async function loadRuns() {
  const { runs, orders } = await getJson("api/runs");
  state.runs = runs.map((run) => ({ ...run, colour: COLOURS[run.number % COLOURS.length] }));
  state.orders = orders;
  const title = runs.length === 1 ? runs[0].name : count(runs.length, "run");
  document.getElementById("title").replaceChildren(foreign("span", {}, title));
  document.title = visible(title) + " · Grand Rounds";
}

function route() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  return [path.split("/"), Object.fromEntries(new URLSearchParams(query ?? ""))];
}

// Draws what the address names. quiet: the content only got newer, so focus and scroll stay.
async function draw(quiet = false) {
  const mine = ++drawn;
  const [[view, ...path], parameters] = route();
  const name = ["groups", "group"].includes(view) ? view : "curves";
  for (const [id, names] of [["to-curves", ["curves"]], ["to-groups", ["groups", "group"]]]) {
    const link = document.getElementById(id);
    if (names.includes(name)) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  document.body.dataset.view = name;
  main.setAttribute("aria-busy", "true");
  let content;
  try {
    if (name === "group") content = await drawGroup(state, path, parameters);
    else if (name === "groups") content = await drawList(state, parameters);
    else content = curvesView();
  } catch (error) {
    content = [h("p", { class: "notice", role: "alert" }, "This cannot be shown: " + visible(error.message))];
  }
  if (mine !== drawn) return;
  const focused = focusedControl();
  renew(main, content);
  main.removeAttribute("aria-busy");
  main.dataset.drawn = String(drawn);
  const again = focused && main.querySelector(focused);
  if (again) again.focus({ preventScroll: true });
  else if (!quiet && drawn > 1) main.focus({ preventScroll: true });
  if (quiet) return;
  const chosen = main.querySelector("[data-chosen]");
  if (chosen) chosen.scrollIntoView(); else if (!again && drawn > 1) window.scrollTo(0, 0);
}

// How to find the control that has the focus once the view is drawn anew; null where none of it has.
function focusedControl() {
  const active = document.activeElement;
  if (!main.contains(active)) return null;
  if (active.id) return active === main ? null : "#" + active.id;
  return active.dataset.filter ? `[data-filter="${CSS.escape(active.dataset.filter)}"]` : null;
}

// Of what is there already, and stays.
function curvesView() {
  const charts = state.charts.draw(state.hidden);
  state.place ??= h("section", { class: "first", "aria-label": "Runs" });
  renew(state.place, state.runs.map(runCard));
  return [state.place, charts.length ? charts : h("p", { class: "card soft" }, "No round is done yet. The curves appear by themselves.")];
}

function runCard(run) {
  const toggled = state.runs.length > 1 ? () => {
    if (!state.hidden.delete(run.number)) state.hidden.add(run.number);
    draw(true);
  } : null;
  if (!state.cards.has(run.number)) state.cards.set(run.number, new RunCard(run, toggled));
  return state.cards.get(run.number).draw(run, roundOf(run), !state.hidden.has(run.number));
}

function roundOf(run) {
  const done = state.curves.runs[run.number].columns.round?.at(-1);
  return done === undefined || done === null ? "no round yet" : `round ${done}${run.about.rounds ? ` of ${run.about.rounds}` : ""}`;
}

// Changes come as events; several at once are drawn once.
function listen() {
  const source = new EventSource("api/events");
  const announce = announcer();
  let waiting = null;
  source.addEventListener("hello", () => connected("yes", "Live"));
  source.addEventListener("change", (event) => {
    const changed = new Set([...(waiting?.changed ?? []), ...JSON.parse(event.data)]);
    clearTimeout(waiting?.timer);
    waiting = { changed, timer: setTimeout(() => { waiting = null; refresh(changed, announce); }, 200) };
  });
  source.onerror = () => connected("no", "No connection: the server has stopped. `grandrounds view RUN` opens the run again.");
}

// Told once: the browser tries again every few seconds.
function connected(now, words) {
  if (live.dataset.live === now) return;
  live.textContent = words;
  live.dataset.live = now;
}

// Tells what cannot be seen: a new warning at once, new rounds together and seldom.
function announcer() {
  const warned = () => state.runs.reduce((sum, run) => sum + run.warnings.length, 0);
  let known = warned(), waiting = null;
  const tell = () => {
    waiting = null;
    const fresh = warned() - known;
    known += fresh;
    const rounds = state.runs.map((run) => (state.runs.length > 1 ? visible(run.name) + ": " : "") + roundOf(run));
    document.getElementById("told").textContent = [...rounds, ...(fresh > 0 ? [count(fresh, "new warning")] : [])].join("; ");
  };
  return () => {
    if (warned() > known) {
      clearTimeout(waiting);
      tell();
    } else waiting ??= setTimeout(tell, QUIET);
  };
}

async function refresh(changed, announce) {
  try {
    await loadRuns();
    state.curves.runs.forEach((run) => Object.assign(run, state.runs[run.number]));
    await Promise.all([...changed].map((number) => state.curves.update(number)));
    announce();
    if (document.body.dataset.view === "curves") await draw(true);
    else if (document.body.dataset.view === "group") await renewNext(route()[0].slice(1));
  } catch { /* the next event tries again */ }
}

async function start() {
  await loadRuns();
  state.curves = new Curves(state.runs);
  state.charts = new Charts(state.curves);
  const curves = Promise.all(state.runs.map((run) => state.curves.update(run.number)));
  window.addEventListener("hashchange", () => draw());
  document.querySelector(".skip").addEventListener("click", (event) => { // its address would name another view
    event.preventDefault();
    main.focus();
  });
  if (!location.hash.startsWith("#/group")) await curves;
  await draw();
  await curves;
  listen();
}

start().catch((error) => {
  document.getElementById("title").textContent = "The page could not be loaded";
  main.replaceChildren(h("p", { class: "notice", role: "alert" }, visible(error.message)));
});
