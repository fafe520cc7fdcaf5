/** The form that changes the thresholds of a run. */

import { h } from "./dom.js";
import { isMissing } from "./words.js";

export function limitsForm(thresholds) {
  return h("fieldset.form", null, h("legend.hidden", null, "Limits"), thresholds.map(field));
}

function noLimit({ unit }) {
  return unit === "percent" ? 100 : -1;
}

function field(threshold) {
  const { name, limit, unit } = threshold;
  const none = noLimit(threshold);
  const hint = unit === "percent" ? "percent of all mini-batches; 100: no limit" : `failed ${unit}; -1: no limit`;
  return h(
    "label",
    { key: name },
    h("code", null, name),
    h("input", { name, inputmode: "decimal", autocomplete: "off", initial: String(isMissing(limit) ? none : limit) }),
    h("span.muted", null, hint),
  );
}

/** Read the form. Only what differs from the limits is sent; an error names the field and what it accepts. */
export function changedLimits(form, thresholds) {
  const changes = {};
  for (const threshold of thresholds) {
    const { name, limit, unit } = threshold;
    const text = form.elements[name].value.trim();
    const value = Number(text);
    const isPercent = unit === "percent";
    const isValid = text !== "" && (isPercent ? value >= 0 && value <= 100 : Number.isInteger(value) && value >= -1);
    if (!isValid) {
      form.elements[name].focus();
      throw new Error(`${name} is ${text || "empty"}. It must be ${isPercent ? "a number from 0 to 100" : "a whole number, -1 or more"}.`);
    }
    if (value !== (isMissing(limit) ? noLimit(threshold) : limit)) changes[name] = value;
  }
  if (Object.keys(changes).length === 0) throw new Error("No limit differs from the present one.");
  return changes;
}
