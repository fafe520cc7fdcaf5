/** Nodes and their processes: what each works on, and for how long. */

import { h } from "./dom.js";
import { bar, card, disclosure, link, table } from "./parts.js";
import { count, decimal, duration, isMissing, number, rate } from "./words.js";

const OPEN_UP_TO = 16;
const HEADINGS = ["Node", "State", "Done", "#Failed", "#Throughput", "Works on"];

export function nodesCard(state, page) {
  const { nodes } = state.overview;
  if (!nodes?.length) return null;
  const processes = nodes.flatMap((node) => node.processes);
  const areOpen = state.overview.is_live && processes.length <= OPEN_UP_TO;
  const rows = nodes.flatMap((node) => nodeRows(node, areOpen !== state.toggled.has(`node ${node.node}`), state, page));
  const aside = `${count(nodes.length, "node")}, ${count(processes.length, "process", "processes")}`;
  return card("Nodes", { aside, class: "wide" }, table("Nodes and their processes", HEADINGS, rows));
}

function nodeRows(node, isOpen, state, page) {
  const { at } = state.overview;
  const isThis = node.task && state.taskId === node.task.task_id && Number(state.mapIndex) === node.task.map_index;
  const canOpen = node.processes.length > 0;
  const toggle = disclosure(page, `node ${node.node}`, isOpen, `Processes of ${node.node}`, node.node);
  const name = canOpen ? toggle : node.node;
  const done = [bar(node.total, ["done", node.done - node.failed], ["bad", node.failed]), `${number(node.done)} of ${number(node.total)}`];
  const row = h(
    "tr",
    { key: `node ${node.node}`, class: isThis && "this" },
    h("th", { scope: "row" }, name, isThis && h("span.tag", null, "this task")),
    h("td", null, node.task ? link(node.task.url, taskState(node)) : taskState(node)),
    h("td", null, h("div.inline", null, done), node.loans.map((loan) => h("div.muted", { key: loan }, loan))),
    h("td.number", null, h("span", { class: node.failed > 0 && "is-bad" }, number(node.failed))),
    h("td.number", null, rate(node.rate)),
    h("td", null, summaryOf(node, at)),
  );
  if (!canOpen || !isOpen) return [row];
  const processes = h("ul.processes", null, node.processes.map((process) => processView(process, at)));
  return [row, h("tr.more", { key: `processes ${node.node}` }, h("td", { colspan: HEADINGS.length }, processes))];
}

function taskState({ state, task }) {
  return task?.try_number > 1 ? `${state}, try ${task.try_number}` : state;
}

function summaryOf({ processes }, at) {
  const busy = processes.filter((process) => !isMissing(process.mini_batch));
  if (busy.length === 0) return "–";
  const first = busy.reduce((one, other) => (other.since < one.since ? other : one));
  return `${busy.length} of ${count(processes.length, "process", "processes")} busy, longest ${duration(at - first.since)}`;
}

function processView({ process, mini_batch: batch, since, mini_batches: done, rate: speed, run_s: seconds }, at) {
  const isBusy = !isMissing(batch);
  const now = isBusy ? [`mini-batch ${number(batch)}`, !isMissing(since) && ` for ${duration(at - since)}`] : "idle";
  const title = `${number(done)} mini-batches done, ${rate(speed)}, ${decimal(seconds)} s in run()`;
  return h("li", { key: process, class: isBusy && "busy", title }, h("code", null, process), h("span.muted", null, `${number(done)} done`), h("div", null, now));
}
