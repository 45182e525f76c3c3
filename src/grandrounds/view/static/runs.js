// The card of a run: what it is, how far it is, and its warnings.
import { count, foreign, h, heard, renew, visible } from "./dom.js";

const NEWEST = 5; // warnings that are not folded away

export class RunCard {
  // toggled: shows or hides the run's curves; null where there is one run.
  constructor(run, toggled) {
    this.toggle = toggled && h("button", { type: "button", click: toggled }, "Shown", heard(": " + run.name));
    this.about = h("span", { class: "small soft" });
    this.older = h("div");
    this.many = h("span");
    this.folded = h("details", {}, h("summary", {}, this.many, heard(" of " + run.name)), this.older);
    this.warnings = h("div", { role: "region", "aria-label": "Warnings of " + visible(run.name) });
    this.element = h("article", { class: `card runcard k${run.colour}`, "aria-label": "Run " + visible(run.name) },
      h("div", { class: "who" }, h("span", { class: "dot", "aria-hidden": "true" }), foreign("h2", {}, run.name), this.toggle, this.about), this.warnings);
  }

  draw(run, round, shown) {
    const facts = Object.entries(run.about).filter(([name]) => name !== "rounds").map(([name, value]) => `${name} ${visible(value)}`);
    this.about.textContent = [run.kind, round, count(run.completions, "completion"), ...facts].join(" · ");
    this.toggle?.setAttribute("aria-pressed", String(shown));
    const told = run.warnings.map(warning).reverse(), older = told.slice(NEWEST);
    this.many.textContent = count(older.length, "earlier warning");
    renew(this.older, older);
    renew(this.warnings, [...told.slice(0, NEWEST), older.length ? this.folded : null]);
    this.warnings.hidden = !told.length;
    return this.element;
  }
}

function warning(one) {
  const when = one.round === null || one.round === undefined ? "" : `Round ${one.round}: `;
  return h("div", { class: "notice" }, foreign("p", {}, when + one.what), one.cause ? foreign("p", { class: "small" }, one.cause) : null, one.hint ? foreign("p", { class: "small" }, "→ " + one.hint) : null);
}
