// The curves: one small chart for each metric, the runs laid over each other.
import { count, foreign, getJson, h, number, percent, svg, visible } from "./dom.js";

const LEFT = 50, RIGHT = 308, TOP = 12, BOTTOM = 124, MOST = 400, SMOOTH = 0.05;

// Section -> [metric, title, how a value is written]; a pattern takes every metric that fits, by its first group.
const share = percent;
const SECTIONS = [
  ["Reward", [["reward", "Reward"], ["reward_std", "Spread within groups"], ["frac_reward_zero_std", "Groups without variance", share]]],
  ["Reward components", [[/^rewards\/(.+)\/mean$/, ""]]],
  ["Right answers and form", [["accuracy", "Right answers, while training", share], ["held_out/accuracy", "Right answers, held-out cases", share], ["format_rate", "Form kept", share], ["answer_rate", "Answer given", share], [/^held_out\/(.+)$/, "Held-out: "], [/^eval_(.+)$/, "Evaluation: "]]],
  ["Lengths", [["completions/mean_length", "Tokens per response"], ["completions/max_length", "Longest response"], ["completions/min_length", "Shortest response"], ["completions/clipped_ratio", "Cut off", share], ["completions/mean_terminated_length", "Tokens per finished response"]]],
  ["The update", [["loss", "Loss"], ["grad_norm", "Gradient norm"], ["learning_rate", "Learning rate"], ["entropy", "Entropy"], ["kl", "KL to the reference"], ["policy_kl", "KL to the sampling policy"], ["clip_ratio/low_mean", "Clipped from below", share], ["clip_ratio/high_mean", "Clipped from above", share], ["clip_ratio/region_mean", "Clipped", share], ["ratio_mean", "Mean ratio"]]],
  ["Behaviour", [[/^behaviour\/(.+)$/, "", share]]],
  ["Speed and memory", [["tokens_per_second", "Tokens per second"], ["step_time", "Seconds per round"], ["sampling_time", "Seconds of sampling"], ["memory_gib", "Memory, GiB"], ["num_tokens", "Tokens in all"]]],
  ["Everything else", [[/^(.+)$/, ""]]],
];
const NOT_METRICS = new Set(["round", "step", "epoch", "cases", "total_flos", "train_runtime"]);

// The rows of every run, kept and added to.
export class Curves {
  constructor(runs) {
    this.runs = runs.map((run) => ({ ...run, epoch: -1, total: 0, columns: {}, evaluations: {} }));
  }

  async update(number) {
    const run = this.runs[number];
    const got = await getJson(`api/runs/${number}/curves?after=${run.total}&epoch=${run.epoch}`);
    if (got.start === 0) run.columns = {};
    for (const [name, values] of Object.entries(got.columns)) {
      run.columns[name] ??= Array(got.start).fill(null);
      run.columns[name].push(...values);
    }
    for (const values of Object.values(run.columns)) while (values.length < got.total) values.push(null);
    [run.epoch, run.total, run.evaluations] = [got.epoch, got.total, got.evaluations];
  }

  // [[round, value], …] of a metric. Held-out evaluations are their own file, with the one before the first round.
  course(run, metric) {
    const held = metric.startsWith("held_out/") ? run.evaluations : null;
    const own = held && held[metric.slice(9)];
    const [rounds, values] = own ? [held.round, own] : [run.columns.round, run.columns[metric]];
    return (values ?? []).map((value, place) => [rounds?.[place], value]).filter(([x, y]) => x !== null && x !== undefined && y !== null);
  }

  metrics() {
    const names = new Set(this.runs.flatMap((run) => [...Object.keys(run.columns), ...Object.keys(run.evaluations).filter((name) => typeof name === "string").map((name) => "held_out/" + name)]));
    return [...names].filter((name) => !NOT_METRICS.has(name.replace("held_out/", ""))).sort();
  }
}

export function drawCurves(curves, hidden) {
  const seen = new Set(), sections = [];
  const shown = curves.runs.filter((run) => !hidden.has(run.number));
  for (const [title, wanted] of SECTIONS) {
    const charts = [];
    for (const [key, label, write] of wanted) {
      for (const metric of curves.metrics()) {
        const match = key instanceof RegExp ? metric.match(key) : metric === key && [metric, ""];
        if (!match || seen.has(metric)) continue;
        seen.add(metric);
        const name = key instanceof RegExp ? label + match[1].replaceAll("_", " ") : label;
        const courses = shown.map((run) => [run, curves.course(run, metric)]).filter(([, course]) => course.length);
        if (courses.length) charts.push(chart(visible(name), metric, courses, write ?? number));
      }
    }
    if (charts.length) sections.push(section(title, charts));
  }
  return sections;
}

function section(title, charts) {
  const id = "h-" + title.toLowerCase().replaceAll(" ", "-");
  const inner = h("div", { class: "columns charts" }, charts);
  if (title === "Everything else") {
    return h("section", { "aria-labelledby": id }, h("details", {}, h("summary", { id }, `${title} (${count(charts.length, "metric")})`), inner));
  }
  return h("section", { "aria-labelledby": id }, h("h2", { id }, title), inner);
}

function bounds(values, write) {
  let low = Infinity, high = -Infinity;
  for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
  if (write === percent && low >= 0 && high <= 1) return high > 0.25 ? [0, 1] : [0, Math.max(0.01, high * 1.2)];
  const margin = 0.08 * (high - low) || Math.abs(high) * 0.1 || 1; // 0 alone: from 0 to 1
  return [low < 0 ? low - margin : Math.max(0, low - margin), high + margin];
}

function movingMean(values) {
  const reach = values.length >= 10 ? Math.max(1, Math.round(values.length * SMOOTH)) : 0;
  const sums = [0];
  for (const value of values) sums.push(sums.at(-1) + value);
  return values.map((_, i) => {
    const from = Math.max(0, i - reach), to = Math.min(values.length, i + reach + 1);
    return (sums[to] - sums[from]) / (to - from);
  });
}

function chart(title, metric, courses, write) {
  const [low, high] = bounds(courses.flatMap(([, course]) => course.map(([, value]) => value)), write);
  const rounds = courses.flatMap(([, course]) => [course[0][0], course.at(-1)[0]]);
  const first = Math.min(...rounds), last = Math.max(...rounds);
  const x = (round) => LEFT + ((RIGHT - LEFT) * (round - first)) / Math.max(1, last - first);
  const y = (value) => BOTTOM - ((BOTTOM - TOP) * (value - low)) / (high - low);
  const ends = courses.map(([run, course]) => [run, movingMean(course.map(([, value]) => value))]);
  const inWords = ends.map(([run, smooth]) => `${courses.length > 1 ? visible(run.name) + ": " : ""}${write(smooth[0])} at first, ${write(smooth.at(-1))} now`).join("; ");
  const caption = h("figcaption", { class: "small soft" }, inWords);
  const cursor = svg("line", { class: "cursor", y1: TOP, y2: BOTTOM, visibility: "hidden" });
  const lines = courses.map(([run, course], place) => curve(run, course, ends[place][1], x, y));
  const marks = [low, (low + high) / 2, high].map((level) => [
    svg("line", { class: "grid", x1: LEFT, x2: RIGHT, y1: y(level), y2: y(level) }),
    svg("text", { x: LEFT - 6, y: y(level) + 4, "text-anchor": "end" }, write(level)),
  ]);
  const figure = svg("svg", { viewBox: "0 0 320 150", width: "100%", role: "slider", tabindex: 0, "data-metric": metric, "aria-label": `${title}: ${inWords}. Arrow keys read single rounds.`,
    "aria-valuemin": first, "aria-valuemax": last, "aria-valuenow": last, "aria-valuetext": `round ${last}` },
    marks, lines, cursor,
    svg("text", { x: LEFT, y: 144 }, `round ${first}`), last > first ? svg("text", { x: RIGHT, y: 144, "text-anchor": "end" }, `round ${last}`) : null);
  readable(figure, cursor, caption, courses, { first, last, x, write, inWords });
  return h("figure", { class: "card chart", "aria-label": title }, foreign("h3", { title: visible(metric) }, title), figure, caption);
}

function curve(run, course, smooth, x, y) {
  const step = Math.ceil(course.length / MOST);
  const kept = course.map((_, i) => i).filter((i) => i % step === 0 || i === course.length - 1);
  const points = (heights) => kept.map((i) => x(course[i][0]).toFixed(1) + "," + y(heights[i]).toFixed(1)).join(" ");
  return svg("g", { class: "run k" + run.colour },
    svg("polyline", { class: "raw", points: points(course.map(([, value]) => value)) }),
    svg("polyline", { class: "smooth", points: points(smooth) }),
    svg("circle", { class: "end", cx: x(course.at(-1)[0]), cy: y(smooth.at(-1)), r: 4 }));
}

// A pointer or the arrow keys read the values of one round.
function readable(figure, cursor, caption, courses, { first, last, x, write, inWords }) {
  let at = last;
  const rounds = [...new Set(courses.flatMap(([, course]) => course.map(([round]) => round)))].sort((a, b) => a - b);
  const read = (round) => {
    at = rounds.reduce((best, one) => (Math.abs(one - round) < Math.abs(best - round) ? one : best), rounds[0]);
    cursor.setAttribute("x1", x(at)); cursor.setAttribute("x2", x(at)); cursor.setAttribute("visibility", "visible");
    const told = courses.map(([run, course]) => {
      const found = course.find(([round]) => round === at);
      return (courses.length > 1 ? visible(run.name) + " " : "") + (found ? write(found[1]) : "—");
    });
    caption.textContent = `Round ${at}: ${told.join("; ")}`;
    figure.setAttribute("aria-valuenow", at);
    figure.setAttribute("aria-valuetext", caption.textContent);
  };
  const leave = () => { cursor.setAttribute("visibility", "hidden"); caption.textContent = inWords; };
  figure.addEventListener("pointermove", (event) => {
    const box = figure.getBoundingClientRect();
    const place = (((event.clientX - box.left) / box.width) * 320 - LEFT) / (RIGHT - LEFT);
    read(first + place * (last - first));
  });
  figure.addEventListener("pointerleave", leave);
  figure.addEventListener("blur", leave);
  figure.addEventListener("keydown", (event) => {
    const place = rounds.indexOf(at);
    const to = { ArrowLeft: place - 1, ArrowRight: place + 1, Home: 0, End: rounds.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    read(rounds[Math.max(0, Math.min(rounds.length - 1, to))]);
  });
}
