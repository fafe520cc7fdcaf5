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
  const path = h("path", { d: ICONS[name] });
  return h("svg.icon", { viewBox: "0 0 16 16", "aria-hidden": "true" }, path);
}

export function stateBadge(name) {
  const { tone, icon: sign, text } = stateOf(name);
  return h(`span.badge.${tone}`, null, icon(sign), text);
}

export function card(title, props, ...children) {
  const id = `prs-${title.toLowerCase().replaceAll(/[^a-z]+/g, "-")}`;
  const { aside, ...rest } = props;
  const heading = h("h3", { id, tabindex: -1 }, title);
  const header = h("header", null, heading, aside && h("span.muted", null, aside));
  return h("section.card", { key: id, "aria-labelledby": id, ...rest }, header, children);
}

export function button(text, onclick, props) {
  return h("button.button", { type: "button", onclick, ...props }, text);
}

/** A link to something of this Airflow; the text alone if the address is missing or leads elsewhere. */
export function link(address, ...text) {
  const href = addressOf(address);
  return href ? h("a", { href }, text) : h("span", null, text);
}

export function time(seconds, now) {
  return h("time", { datetime: moment(seconds), title: moment(seconds) }, clock(seconds, now));
}

/** A value with its name above it. */
export function fact(name, ...value) {
  return h("div.fact", { key: name }, h("dt", null, name), h("dd", null, value));
}

export function table(label, headings, rows) {
  const head = headings.map((heading) => h("th", { scope: "col", class: heading.startsWith("#") && "number" }, heading.replace("#", "")));
  const body = h("tbody", null, rows);
  return h("div.scroll", null,
    h("table", null, h("caption.hidden", null, label), h("thead", null, h("tr", null, head)), body),
  );
}

/** A bar of parts: [class, size]. Screen readers skip it, because the text beside it has the numbers. */
export function bar(total, ...parts) {
  const pieces = parts.filter(([, size]) => size > 0);
  const style = (size) => ({ width: `${(100 * size) / (total || 1)}%` });
  return h("div.bar", { "aria-hidden": "true" }, pieces.map(([kind, size]) => h("i", { key: kind, class: kind, style: style(size) })));
}

export function progressBar({ total, done, failed, running }) {
  const pieces = bar(total, ["done", done - failed], ["bad", failed], ["busy", running]);
  return h("div.progress", null, pieces, h("span", null, percent(done, total)));
}

export function commandLine(command) {
  const copy = () => navigator.clipboard.writeText(command);
  const canCopy = Boolean(globalThis.navigator.clipboard);
  return h("div.command", null, h("code", null, command), canCopy && button("Copy", copy, { "aria-label": "Copy the command" }));
}

/** A button that shows or hides what belongs to a row. */
export function disclosure(page, name, isOpen, label, ...text) {
  const props = { type: "button", "aria-expanded": String(isOpen), "aria-label": label };
  return h("button.disclosure", { ...props, onclick: () => page.toggle(name) }, icon(isOpen ? "down" : "right"), text);
}

/**
 * A picture of many values that the pointer or the arrow keys read one by one. For a screen reader it is a slider: each
 * move announces the text of the value.
 *
 * @param at gives the number of the value under the pointer, or null
 * @param text gives the text of a value by its number
 */
export function readable({ state, page, name, label, size, at, text, step = 1, rest }, ...picture) {
  const cursor = state.cursors[name];
  const move = (to) => page.update({ cursors: { ...state.cursors, [name]: to } });
  const bounded = (to) => Math.max(0, Math.min(size - 1, to));
  const onkeydown = (event) => {
    // Not the value of the last frame: keys may come faster than frames.
    const cursor = state.cursors[name];
    const now = cursor ?? 0;
    const row = typeof step === "function" ? step(event.currentTarget) : step;
    const moves = { ArrowRight: now + 1, ArrowLeft: now - 1, ArrowDown: now + row, ArrowUp: now - row, Home: 0, End: size - 1 };
    if (!(event.key in moves)) return;
    event.preventDefault();
    move(bounded(cursor === undefined && event.key !== "End" ? 0 : moves[event.key]));
  };
  const onpointermove = (event) => {
    const to = at(event);
    if (to !== null && to !== cursor) move(bounded(to));
  };
  const onpointerleave = () => move(undefined);
  const is = cursor === undefined ? undefined : bounded(cursor);
  return [
    h(
      "div.readable",
      {
        role: "slider",
        tabindex: 0,
        "aria-label": label,
        "aria-valuemin": 0,
        "aria-valuemax": size - 1,
        "aria-valuenow": is ?? 0,
        "aria-valuetext": is === undefined ? rest : text(is),
        onkeydown,
        onpointermove,
        onpointerleave,
      },
      picture,
    ),
    h("p.readout", { "aria-hidden": "true" }, is === undefined ? rest : text(is)),
  ];
}
