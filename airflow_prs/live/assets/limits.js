/** The thresholds: as bars, with what is left of each and who changed them, and as a form. */

import { h } from "./dom.js";
import { bar, card, time } from "./parts.js";
import { decimal, isMissing } from "./words.js";

const ONE = { items: "item", "mini-batches": "mini-batch" };

export function limitsCard({ thresholds, changes, at }) {
  if (!thresholds?.length) return null;
  const change = (entry, key) =>
    h("li", { key }, h("span.muted", time(entry.at, at), entry.author && ` by ${entry.author}`), h("div", entry.what));
  const history = changes?.length > 0 && [h("h4", "Changes"), h("ol.list", changes.map(change))];
  return card("Thresholds", { class: "some" }, h("ul.limits", thresholds.map(limitView)), history);
}

function limitView({ name, limit, counted, left, unit }) {
  const isOver = !isMissing(limit) && counted > limit;
  const share = limit > 0 ? Math.min(100, (100 * counted) / limit) : counted > 0 ? 100 : 0;
  const [of, rest, shown] = isMissing(limit)
    ? ["no limit", `${amount(counted, unit)} failed`, null]
    : [
        `${decimal(counted)} of ${amount(limit, unit)}`,
        isOver ? "exceeded" : `${amount(left, unit)} left`,
        bar(100, [isOver ? "bad" : share >= 80 ? "warn" : "used", share]),
      ];
  return h("li", { key: name }, h("div", h("code", name), h("span", of)), shown, h("div", { class: isOver ? "is-bad" : "muted" }, rest));
}

function amount(value, unit) {
  return `${decimal(value)} ${unit === "percent" ? "%" : value === 1 ? ONE[unit] : unit}`;
}

export function limitsForm(thresholds) {
  return h("fieldset.form", h("legend.hidden", "Limits"), thresholds.map(field));
}

function field(threshold) {
  const { name, unit } = threshold;
  const hint = unit === "percent" ? "percent of all mini-batches; 100: no limit" : `failed ${unit}; -1: no limit`;
  const input = h("input", { name, inputmode: "decimal", autocomplete: "off", initial: String(present(threshold)) });
  return h("label", { key: name }, h("code", name), input, h("span.muted", hint));
}

/** The limit as the form shows it. */
function present({ limit, unit }) {
  return isMissing(limit) ? (unit === "percent" ? 100 : -1) : limit;
}

/** Read the form. Only what differs from the limits is sent; an error names the field and what it accepts. */
export function changedLimits(form, thresholds) {
  const changes = {};
  for (const threshold of thresholds) {
    const { name, unit } = threshold;
    const text = form.elements[name].value.trim();
    const value = Number(text);
    const isPercent = unit === "percent";
    const isValid = text !== "" && (isPercent ? value >= 0 && value <= 100 : Number.isInteger(value) && value >= -1);
    if (!isValid) {
      form.elements[name].focus();
      throw new Error(`${name} is ${text || "empty"}. It must be ${isPercent ? "a number from 0 to 100" : "a whole number, -1 or more"}.`);
    }
    if (value !== present(threshold)) changes[name] = value;
  }
  if (Object.keys(changes).length === 0) throw new Error("No limit differs from the present one.");
  return changes;
}
