// Builds the page from elements and text. What a model wrote only ever becomes a text node.

const SVG = "http://www.w3.org/2000/svg";

// h("p", {class: "soft"}, "text", element, [elements], null)
export function h(tag, attributes, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

// Makes these elements the only children. One that is a child already stays where it is, with its focus and its state.
export function renew(parent, elements) {
  const wanted = elements.flat(Infinity).filter(Boolean), kept = new Set(wanted);
  for (const child of [...parent.childNodes]) if (!kept.has(child)) child.remove();
  wanted.forEach((element, place) => {
    if (parent.childNodes[place] !== element) parent.insertBefore(element, parent.childNodes[place] ?? null);
  });
}

// Characters that change how others look or cannot be seen: controls (an ANSI code begins with one), marks of
// direction, what has no width, and halves of characters. Line breaks and tabs stay.
const HIDDEN =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\u{e0000}-\u{e007f}]/gu;

// The text with such characters written out: "␛[31m", "⟨U+202E⟩".
export function visible(text) {
  return String(text ?? "").replace(HIDDEN, (character) => {
    const code = character.codePointAt(0);
    if (code < 0x20) return String.fromCharCode(0x2400 + code);
    return "⟨U+" + code.toString(16).toUpperCase().padStart(4, "0") + "⟩";
  });
}

// Words for those who hear the page and do not see beside what they stand.
export function heard(text) {
  return h("span", { class: "skip" }, visible(text));
}

// An element with text from outside, whose direction cannot reach beyond it.
export function foreign(tag, attributes, text) {
  return h(tag, { dir: "auto", ...attributes }, visible(text));
}

export async function getJson(address) {
  const response = await fetch(address);
  if (!response.ok) {
    const told = await response.json().catch(() => ({}));
    throw new Error(typeof told.detail === "string" ? told.detail : `the server answered ${response.status}`);
  }
  return response.json();
}

export function number(value) {
  if (value === null || value === undefined) return "—";
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString("en");
  if (value !== 0 && Math.abs(value) < 0.001) return value.toExponential(1);
  return String(Number(value.toPrecision(3)));
}

// As `grandrounds.shares.percent`: toFixed rounds a half up.
export function percent(value) {
  if (value === null || value === undefined) return "—";
  const text = (100 * value).toFixed(1);
  if (text === "100.0" && value < 1) return "> 99.9 %";
  return (text === "0.0" && value > 0 ? "< 0.1" : text) + " %";
}

export function signed(value) {
  if (value === null || value === undefined) return "—";
  return (value > 0 ? "+" : value < 0 ? "−" : "") + Math.abs(value).toFixed(2);
}

export function count(many, one, several = one + "s") {
  return many.toLocaleString("en") + " " + (many === 1 ? one : several);
}

// "#/groups?run=1&page=2" of its parts; what is empty is left out.
export function address(path, parameters = {}) {
  const kept = Object.entries(parameters).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const query = new URLSearchParams(kept).toString();
  return "#/" + path + (query ? "?" + query : "");
}
