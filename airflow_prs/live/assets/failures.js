/** Failed mini-batches with their items, tries, tracebacks and logs. */

import { h } from "./dom.js";
import { button, card, codes, details, disclosure, dotted, link, place, table, time } from "./parts.js";
import { count, duration, number } from "./words.js";

const HEADINGS = ["*Mini-batch", "Items", "Last error", "Where", "#Tries"];

/** Whether a mini-batch has failed, or was split and has left items out. */
export function hasFailures({ failures, overview }) {
  return overview.progress.failed > 0 || (overview.progress.items_failed > 0 && failures?.total > 0);
}

export function failuresCard(state, page) {
  const { failures, overview } = state;
  const aside = `${number(failures?.total ?? overview.progress.failed)} with ${count(overview.progress.items_failed, "failed item")} in total`;
  const content = failures
    ? [table("Failed mini-batches", HEADINGS, failures.failures.flatMap((failure) => rowsOf(failure, state, page))), paging(state, page)]
    : h("p.empty", "Loading …");
  return card("Failed mini-batches", { aside, class: "wide" }, content);
}

/** The newest failed tries, of mini-batches that may still succeed. */
export function lastTriesCard({ last_failures: tries, at }) {
  if (!tries?.length) return null;
  const row = (one) => ({
    key: `${one.mini_batch} ${one.try} ${one.at}`,
    cells: [number(one.mini_batch), number(one.try), errorOf(one), dotted(place(one), time(one.at, at))],
  });
  const headings = ["*Mini-batch", "#Try", "Error", "Where"];
  return card("Last failed tries", { class: "wide" }, table("Last failed tries", headings, [...tries].reverse().map(row)));
}

function errorOf(one) {
  return h("td.error", one && [h("code", one.status), " ", one.error]);
}

function rowsOf({ mini_batch: batch, items, item_count: size, tries }, state, page) {
  const key = `failure ${batch}`;
  const isOpen = state.toggled.has(key);
  const last = tries.at(-1);
  const toggle = disclosure(page, key, isOpen, `Tries of mini-batch ${batch}`, number(batch));
  const first = h("td.items", h("span.path", { title: items[0] }, items[0] ?? "–"), more(size - 1));
  const row = { key, cells: [toggle, first, errorOf(last), last && place(last), number(tries.length)] };
  if (!isOpen) return [row];
  const views = tries.map((one, index) => tryView(one, index, one === last, state.overview.at)).reverse();
  return [row, details(`${key} details`, HEADINGS, allItems(items, size), views)];
}

function more(left, where = "") {
  return left > 0 && h("span.muted", `and ${number(left)} more${where}`);
}

function allItems(items, size) {
  return h("div", { key: "items" }, h("h4", count(size, "item")), codes(items), more(size - items.length, ", see failed_items.jsonl"));
}

function tryView(one, index, isLast, now) {
  const { status, error, traceback, log, task } = one;
  const links = [log && link(log, "Log of the script"), task && link(task.url, `Log of the task, attempt ${task.try_number}`)];
  const isHidden = traceback === null && status === "RUN_EXCEPTION";
  return h(
    "div.try",
    { key: `try ${index}` },
    h("h4", `Try ${one.try} `, h("code", status)),
    h("p.muted", dotted(place(one), time(one.at, now), `after ${duration(one.seconds)}`, ...links)),
    h("p.error", error),
    traceback && h("details", { open: isLast }, h("summary", "Traceback"), h("pre", { tabindex: 0 }, traceback)),
    isHidden && h("p.muted", "To see the traceback, you need the permission to read task logs."),
  );
}

function paging({ failures, offset, pageSize }, page) {
  if (failures.total <= pageSize) return null;
  const last = Math.min(offset + pageSize, failures.total);
  const turn = (text, to, disabled) => button(text, () => page.turn(to), { disabled });
  return h("nav.paging", { "aria-label": "Pages of failed mini-batches" },
    turn("Previous", Math.max(0, offset - pageSize), offset === 0),
    h("span", `${number(offset + 1)} to ${number(last)} of ${number(failures.total)}`),
    turn("Next", offset + pageSize, last >= failures.total),
  );
}
