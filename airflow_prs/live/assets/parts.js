/** Small parts that several views use. */

import { h } from "./dom.js";
import { addressOf } from "./server.js";
import { clock, moment, percent, stateOf } from "./words.js";

// Drawn on a grid of 16 x 16, so no font is needed.
const ICONS = {
  check: "M3 8.5 6.5 12 13 4.5",
  cross: "M4 4l8 8M12 4l-8 8",
  pause: "M5.5 3.5v9M10.5 3.5v9",
  play: "M5 3.5v9l7-4.5z",
  ring: "M8 3a5 5 0 1 0 0 10A5 5 0 1 0 8 3",
  warning: "M8 2 14.5 13.5h-13zM8 6.5v3M8 11.4v.3",
  down: "M4 6l4 4 4-4",
  right: "M6 4l4 4-4 4",
};

export function icon(name) {
  return h("svg.icon", { viewBox: "0 0 16 16", "aria-hidden": "true" }, h("path", { d: ICONS[name] }));
}

export function stateBadge(name) {
  const { tone, icon: sign, text } = stateOf(name);
  return h(`span.badge.${tone}`, icon(sign), text);
}

export function card(title, { aside, ...props }, ...children) {
  const id = `prs-${title.toLowerCase().replaceAll(/[^a-z]+/g, "-")}`;
  const header = h("header", h("h3", { id, tabindex: -1 }, title), aside && h("span.muted", aside));
  return h("section.card", { key: id, "aria-labelledby": id, ...props }, header, children);
}

export function button(text, onclick, props) {
  return h("button.button", { type: "button", onclick, ...props }, text);
}

/** A link to something of this Airflow; the text alone if the address is missing or leads elsewhere. */
export function link(address, ...text) {
  const href = addressOf(address);
  return h(href ? "a" : "span", { href }, text);
}

export function time(seconds, now) {
  return h("time", { datetime: moment(seconds), title: moment(seconds) }, clock(seconds, now));
}

/** Parts with dots between them. */
export function dotted(...parts) {
  return parts.filter(Boolean).flatMap((part, index) => (index ? [" · ", part] : part));
}

export function place({ node, process }) {
  return h("span", node || process ? dotted(node, process) : "–");
}

/** A number that is marked if it counts failures. */
export function failed(value, text) {
  return h("span", { class: value > 0 && "is-bad" }, text);
}

/**
 * @param headings of the columns; "#" begins that of numbers, "*" that of what the row is about
 * @param rows each with `key`, `cells` and perhaps `class`; or an element
 */
export function table(label, headings, rows) {
  const numberIf = (heading) => heading[0] === "#" && "number";
  const head = headings.map((heading) => h("th", { scope: "col", class: numberIf(heading) }, heading.replace(/^[#*]/, "")));
  const cell = (content, column) => {
    if (content?.tag === "td") return content;
    const isHeading = headings[column][0] === "*";
    return h(isHeading ? "th" : "td", { scope: isHeading && "row", class: numberIf(headings[column]) }, content);
  };
  const body = rows.map((row) => (row.tag ? row : h("tr", { key: row.key, class: row.class }, row.cells.map(cell))));
  return h("div.scroll", h("table", h("caption.hidden", label), h("thead", h("tr", head)), h("tbody", body)));
}

/** A row below another one, with more about it. */
export function details(key, headings, ...content) {
  return h("tr.more", { key }, h("td", { colspan: headings.length }, content));
}

/** A bar of parts: [class, size]. Screen readers skip it, because the text beside it has the numbers. */
export function bar(total, ...parts) {
  const piece = ([kind, size]) => size > 0 && h("i", { key: kind, class: kind, style: { width: `${(100 * size) / (total || 1)}%` } });
  return h("div.bar", { "aria-hidden": "true" }, parts.map(piece));
}

export function progressBar({ total, done, failed: bad, running }) {
  return h("div.progress", bar(total, ["done", done - bad], ["bad", bad], ["busy", running]), h("span", percent(done, total)));
}

export function commandLine(command) {
  const { clipboard } = navigator;
  const copy = clipboard && button("Copy", () => clipboard.writeText(command), { "aria-label": "Copy the command" });
  return h("div.command", h("code", command), copy);
}

export function codes(texts, props) {
  return h("ul.list", props, texts.map((text, key) => h("li", { key }, h("code", text))));
}

/** A button that shows or hides what belongs to a row. */
export function disclosure(page, name, isOpen, label, text) {
  const props = { type: "button", "aria-expanded": String(isOpen), "aria-label": label, onclick: () => page.toggle(name) };
  return h("button.disclosure", props, icon(isOpen ? "down" : "right"), text);
}

/**
 * A picture of many values that the pointer or the arrow keys read one by one. For a screen reader it is a slider: each
 * move announces the text of the value.
 *
 * @param at gives the number of the value under the pointer, or null
 * @param text gives the text of a value by its number
 * @param row gives how many values the keys up and down pass
 */
export function readable({ state, page, name, label, size, at, text, row = () => 1, rest }, picture) {
  const bounded = (to) => Math.max(0, Math.min(size - 1, to));
  const move = (to) => page.update({ cursors: { ...state.cursors, [name]: to } });
  const onkeydown = (event) => {
    // Not the value of the last frame: keys may come faster than frames.
    const cursor = state.cursors[name];
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: row(event.currentTarget), ArrowUp: -row(event.currentTarget), Home: -size, End: size };
    if (!(event.key in steps)) return;
    event.preventDefault();
    move(bounded(cursor === undefined && event.key !== "End" ? 0 : (cursor ?? 0) + steps[event.key]));
  };
  const onpointermove = (event) => {
    const to = at(event);
    if (to !== null && to !== state.cursors[name]) move(bounded(to));
  };
  const cursor = state.cursors[name];
  const read = cursor === undefined ? rest : text(bounded(cursor));
  const slider = { role: "slider", tabindex: 0, "aria-label": label, "aria-valuemin": 0, "aria-valuemax": size - 1 };
  const value = { "aria-valuenow": cursor === undefined ? 0 : bounded(cursor), "aria-valuetext": read };
  return [
    h("div.readable", { ...slider, ...value, onkeydown, onpointermove, onpointerleave: () => move(undefined) }, picture),
    h("p.readout", { "aria-hidden": "true" }, read),
  ];
}
