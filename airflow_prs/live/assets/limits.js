/** The thresholds as bars, with what is left of each. */

import { h } from "./dom.js";
import { bar, card } from "./parts.js";
import { decimal, isMissing } from "./words.js";

const ONE = { items: "item", "mini-batches": "mini-batch" };

export function limitsCard({ thresholds }) {
  if (!thresholds?.length) return null;
  return card("Thresholds", {}, h("ul.limits", null, thresholds.map(limitView)));
}

function limitView({ name, limit, counted, left, unit }) {
  const isOver = !isMissing(left) && left < 0;
  const of = isMissing(limit) ? "no limit" : `${decimal(counted)} of ${amount(limit, unit)}`;
  const rest = isMissing(limit) ? `${amount(counted, unit)} failed` : isOver ? "exceeded" : `${amount(left, unit)} left`;
  const share = limit > 0 ? Math.min(100, (100 * counted) / limit) : counted > 0 ? 100 : 0;
  return h(
    "li",
    { key: name },
    h("div", null, h("code", null, name), h("span", null, of)),
    !isMissing(limit) && bar(name, 100, [[isOver ? "bad" : share >= 80 ? "warn" : "used", Math.round(share), "percent used"]]),
    h("div", { class: isOver ? "is-bad" : "muted" }, rest),
  );
}

function amount(value, unit) {
  if (unit === "percent") return `${decimal(value)} %`;
  return `${decimal(value)} ${value === 1 ? ONE[unit] : unit}`;
}
