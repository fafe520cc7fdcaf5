/** Failed mini-batches with their items, tries, tracebacks and logs. */

import { h } from "./dom.js";
import { button, card, disclosure, link, table, time } from "./parts.js";
import { count, duration, number } from "./words.js";

const HEADINGS = ["Mini-batch", "Items", "Last error", "Where", "#Tries"];

/** Whether a mini-batch has failed, or was split and has left items out. */
export function hasFailures({ failures, overview }) {
  return overview.progress.failed > 0 || (overview.progress.items_failed > 0 && failures?.total > 0);
}

export function failuresCard(state, page) {
  const { failures, overview } = state;
  const aside = `${number(failures?.total ?? overview.progress.failed)} with ${count(overview.progress.items_failed, "failed item")} in total`;
  const content = failures
    ? [table("Failed mini-batches", HEADINGS, failures.failures.flatMap((failure) => rowsOf(failure, state, page))), paging(state, page)]
    : h("p.empty", null, "Loading …");
  return card("Failed mini-batches", { aside, class: "wide" }, content);
}

/** The newest failed tries, of mini-batches that may still succeed. */
export function lastTriesCard({ last_failures: tries, at }) {
  if (!tries?.length) return null;
  const row = (one) =>
    h(
      "tr",
      { key: `${one.mini_batch} ${one.try} ${one.at}` },
      h("th", { scope: "row" }, number(one.mini_batch)),
      h("td.number", null, number(one.try)),
      h("td.error", null, h("code", null, one.status), " ", one.error),
      h("td", null, whereOf(one), " · ", time(one.at, at)),
    );
  return card("Last failed tries", { class: "wide" }, table("Last failed tries", ["Mini-batch", "#Try", "Error", "Where"], [...tries].reverse().map(row)));
}

function rowsOf(failure, state, page) {
  const { mini_batch: batch, items, item_count: size, tries } = failure;
  const name = `failure ${batch}`;
  const isOpen = state.toggled.has(name);
  const last = tries.at(-1);
  const toggle = disclosure(page, name, isOpen, `Tries of mini-batch ${batch}`, number(batch));
  const row = h(
    "tr",
    { key: name },
    h("th", { scope: "row" }, toggle),
    h("td.items", null, shortItems(items, size)),
    h("td.error", null, last && [h("code", null, last.status), " ", last.error]),
    h("td", null, last && whereOf(last)),
    h("td.number", null, number(tries.length)),
  );
  if (!isOpen) return [row];
  const details = [allItems(items, size), tries.map((one, index) => tryView(one, index, one === last, state.overview.at)).reverse()];
  return [row, h("tr.more", { key: `${name} details` }, h("td", { colspan: HEADINGS.length }, details))];
}

function whereOf({ node, process }) {
  return [node, process].filter(Boolean).join(" · ") || "–";
}

function shortItems(items, size) {
  const more = size - 1;
  return [h("span.path", { title: items[0] }, items[0] ?? "–"), more > 0 && h("span.muted", null, `and ${number(more)} more`)];
}

function allItems(items, size) {
  const left = size - items.length;
  return h(
    "div",
    { key: "items" },
    h("h4", null, count(size, "item")),
    h("ul.list", null, items.map((item, index) => h("li", { key: index }, h("code", null, item)))),
    left > 0 && h("p.muted", null, `and ${number(left)} more, see failed_items.jsonl`),
  );
}

function tryView(one, index, isLast, now) {
  const { try: tryNumber, status, error, traceback, at, seconds, log, task } = one;
  const facts = [whereOf(one), time(at, now), `after ${duration(seconds)}`];
  const links = [log && link(log, "Log of the script"), task && link(task.url, `Log of the task, attempt ${task.try_number}`)].filter(Boolean);
  return h(
    "div.try",
    { key: `try ${index}` },
    h("h4", null, `Try ${tryNumber} `, h("code", null, status)),
    h("p.muted", null, facts.flatMap((part, index) => (index ? [" · ", part] : [part])), links.flatMap((part) => [" · ", part])),
    h("p.error", null, error),
    traceback && h("details", { open: isLast }, h("summary", null, "Traceback"), h("pre", { tabindex: 0 }, traceback)),
    traceback === null && status === "RUN_EXCEPTION" && h("p.muted", null, "To see the traceback, you need the permission to read task logs."),
  );
}

function paging({ failures, offset, pageSize }, page) {
  if (failures.total <= pageSize) return null;
  const last = Math.min(offset + pageSize, failures.total);
  return h("nav.paging", { "aria-label": "Pages of failed mini-batches" },
    button("Previous", () => page.turn(Math.max(0, offset - pageSize)), { disabled: offset === 0 }),
    h("span", null, `${number(offset + 1)} to ${number(last)} of ${number(failures.total)}`),
    button("Next", () => page.turn(offset + pageSize), { disabled: last >= failures.total }),
  );
}
