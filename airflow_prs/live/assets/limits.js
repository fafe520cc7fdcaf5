/** The thresholds as bars, with what is left of each, and who changed them. */

import { h } from "./dom.js";
import { bar, card, time } from "./parts.js";
import { decimal, isMissing } from "./words.js";

const ONE = { items: "item", "mini-batches": "mini-batch" };

export function limitsCard({ thresholds, changes, at }) {
  if (!thresholds?.length) return null;
  const change = (entry, index) =>
    h("li", { key: index }, h("span.muted", null, time(entry.at, at), entry.author && ` by ${entry.author}`), h("div", null, entry.what));
  const history = changes?.length > 0 && [h("h4", null, "Changes"), h("ol.list", null, changes.map(change))];
  return card("Thresholds", { class: "some" }, h("ul.limits", null, thresholds.map(limitView)), history);
}

function limitView({ name, limit, counted, left, unit }) {
  const isOver = !isMissing(limit) && counted > limit;
  const of = isMissing(limit) ? "no limit" : `${decimal(counted)} of ${amount(limit, unit)}`;
  const rest = isMissing(limit) ? `${amount(counted, unit)} failed` : isOver ? "exceeded" : `${amount(left, unit)} left`;
  const share = limit > 0 ? Math.min(100, (100 * counted) / limit) : counted > 0 ? 100 : 0;
  return h(
    "li",
    { key: name },
    h("div", null, h("code", null, name), h("span", null, of)),
    !isMissing(limit) && bar(100, [isOver ? "bad" : share >= 80 ? "warn" : "used", share]),
    h("div", { class: isOver ? "is-bad" : "muted" }, rest),
  );
}

function amount(value, unit) {
  if (unit === "percent") return `${decimal(value)} %`;
  return `${decimal(value)} ${value === 1 ? ONE[unit] : unit}`;
}
