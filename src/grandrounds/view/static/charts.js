// The curves: one small chart for each metric, the runs laid over each other.
import { Chart } from "./chart.js";
import { count, getJson, h, number, percent, renew, visible } from "./dom.js";

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

// The charts in their sections. What is there already stays and is only drawn anew, so that focus, a reader's place and
// what was opened outlast a new round.
export class Charts {
  constructor(curves) {
    Object.assign(this, { curves, charts: new Map(), sections: new Map() });
  }

  draw(hidden) {
    const seen = new Set(), sections = [];
    const shown = this.curves.runs.filter((run) => !hidden.has(run.number));
    for (const [title, wanted] of SECTIONS) {
      const charts = [];
      for (const [key, label, write] of wanted) {
        for (const metric of this.curves.metrics()) {
          const match = key instanceof RegExp ? metric.match(key) : metric === key && [metric, ""];
          if (!match || seen.has(metric)) continue;
          seen.add(metric);
          const name = key instanceof RegExp ? label + match[1].replaceAll("_", " ") : label;
          const courses = shown.map((run) => [run, this.curves.course(run, metric)]).filter(([, course]) => course.length);
          if (courses.length) charts.push(this.chart(metric, visible(name), write ?? number, courses));
        }
      }
      if (charts.length) sections.push(this.section(title, charts));
    }
    return sections;
  }

  chart(metric, title, write, courses) {
    if (!this.charts.has(metric)) this.charts.set(metric, new Chart(metric, title, write));
    const chart = this.charts.get(metric);
    chart.draw(courses);
    return chart.element;
  }

  section(title, charts) {
    if (!this.sections.has(title)) this.sections.set(title, new Section(title));
    return this.sections.get(title).fill(charts);
  }
}

class Section {
  constructor(title) {
    const id = "h-" + title.toLowerCase().replaceAll(" ", "-"), folded = title === "Everything else";
    this.title = title;
    this.inner = h("div", { class: "columns charts" });
    this.head = h(folded ? "summary" : "h2", { id }, title);
    this.folded = folded;
    this.element = h("section", { "aria-labelledby": id }, folded ? h("details", {}, this.head, this.inner) : [this.head, this.inner]);
  }

  fill(charts) {
    if (this.folded) this.head.textContent = `${this.title} (${count(charts.length, "metric")})`;
    renew(this.inner, charts);
    return this.element;
  }
}
