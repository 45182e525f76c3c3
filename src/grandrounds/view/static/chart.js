// One metric's chart: a curve for each run, of which a pointer or the keys read single rounds.
import { foreign, h, percent, svg, visible } from "./dom.js";

const LEFT = 50, RIGHT = 308, TOP = 12, BOTTOM = 124, MOST = 400, SMOOTH = 0.05;

export class Chart {
  constructor(metric, title, write) {
    Object.assign(this, { title, write, at: null }); // at: the round that is read
    this.cursor = svg("line", { class: "cursor", y1: TOP, y2: BOTTOM, visibility: "hidden" });
    this.caption = h("figcaption", { class: "small soft" });
    this.figure = svg("svg", { viewBox: "0 0 320 150", width: "100%", role: "slider", tabindex: 0, "data-metric": metric,
      pointermove: (event) => this.read(this.under(event)), pointerleave: () => this.rest(), blur: () => this.rest(), keydown: (event) => this.press(event) });
    this.element = h("figure", { class: "card chart", "aria-label": title }, foreign("h3", { title: visible(metric) }, title), this.figure, this.caption);
  }

  draw(courses) {
    const { write } = this;
    const values = courses.flatMap(([, course]) => course.map(([, value]) => value));
    const [low, high] = bounds(values, write);
    this.courses = courses;
    this.rounds = [...new Set(courses.flatMap(([, course]) => course.map(([round]) => round)))].sort((a, b) => a - b);
    [this.first, this.last] = [this.rounds[0], this.rounds.at(-1)];
    const y = (value) => BOTTOM - ((BOTTOM - TOP) * (value - low)) / (high - low);
    const ends = courses.map(([run, course]) => [run, movingMean(course.map(([, value]) => value))]);
    this.inWords = ends.map(([run, smooth]) => `${this.named(run, ": ")}${write(smooth[0])} at first, ${write(smooth.at(-1))} now`).join("; ");
    const marks = [low, (low + high) / 2, high].map((level) => [
      svg("line", { class: "grid", x1: LEFT, x2: RIGHT, y1: y(level), y2: y(level) }),
      svg("text", { x: LEFT - 6, y: y(level) + 4, "text-anchor": "end" }, write(level)),
    ]);
    this.figure.replaceChildren(svg("g", {}, marks,
      courses.map(([run, course], place) => curve(run, course, ends[place][1], (round) => this.x(round), y)), this.cursor,
      svg("text", { x: LEFT, y: 144 }, `round ${this.first}`), this.last > this.first ? svg("text", { x: RIGHT, y: 144, "text-anchor": "end" }, `round ${this.last}`) : null));
    this.tell({ "aria-valuemin": this.first, "aria-valuemax": this.last });
    if (this.at !== null) this.read(this.at);
    else if (document.activeElement === this.figure) this.caption.textContent = this.inWords; // told anew, it would be read aloud every round
    else this.rest();
  }

  named(run, between) {
    return this.courses.length > 1 ? visible(run.name) + between : "";
  }

  x(round) {
    return LEFT + ((RIGHT - LEFT) * (round - this.first)) / Math.max(1, this.last - this.first);
  }

  under(event) {
    const box = this.figure.getBoundingClientRect();
    return this.first + ((((event.clientX - box.left) / box.width) * 320 - LEFT) / (RIGHT - LEFT)) * (this.last - this.first);
  }

  read(round) {
    this.at = this.rounds.reduce((best, one) => (Math.abs(one - round) < Math.abs(best - round) ? one : best));
    const x = this.x(this.at);
    for (const [name, value] of Object.entries({ x1: x, x2: x, visibility: "visible" })) this.cursor.setAttribute(name, value);
    const told = this.courses.map(([run, course]) => {
      const found = course.find(([one]) => one === this.at);
      return this.named(run, " ") + (found ? this.write(found[1]) : "—");
    });
    this.caption.textContent = `Round ${this.at}: ${told.join("; ")}`;
    this.tell({ "aria-valuenow": this.at, "aria-valuetext": this.caption.textContent });
  }

  rest() {
    this.at = null;
    this.cursor.setAttribute("visibility", "hidden");
    this.caption.textContent = this.inWords;
    this.tell({ "aria-label": `${this.title}: ${this.inWords}. Arrow keys read single rounds.`, "aria-valuenow": this.last, "aria-valuetext": `round ${this.last}` });
  }

  tell(attributes) {
    for (const [name, value] of Object.entries(attributes)) this.figure.setAttribute(name, value);
  }

  press(event) {
    const place = this.rounds.indexOf(this.at ?? this.last), end = this.rounds.length - 1;
    const to = { ArrowLeft: place - 1, ArrowDown: place - 1, ArrowRight: place + 1, ArrowUp: place + 1, Home: 0, End: end }[event.key];
    if (event.key === "Escape") this.rest();
    if (to === undefined) return;
    event.preventDefault();
    this.read(this.rounds[Math.max(0, Math.min(end, to))]);
  }
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

function curve(run, course, smooth, x, y) {
  const step = Math.ceil(course.length / MOST);
  const kept = course.map((_, i) => i).filter((i) => i % step === 0 || i === course.length - 1);
  const points = (heights) => kept.map((i) => x(course[i][0]).toFixed(1) + "," + y(heights[i]).toFixed(1)).join(" ");
  return svg("g", { class: "run k" + run.colour },
    svg("polyline", { class: "raw", points: points(course.map(([, value]) => value)) }),
    svg("polyline", { class: "smooth", points: points(smooth) }),
    svg("circle", { class: "end", cx: x(course.at(-1)[0]), cy: y(smooth.at(-1)), r: 4 }));
}
