/** Nodes and their processes: what each works on, and for how long. */

import { h } from "./dom.js";
import { bar, card, details, disclosure, failed, link, table } from "./parts.js";
import { count, decimal, duration, isMissing, number, rate } from "./words.js";

const OPEN_UP_TO = 16;
const HEADINGS = ["*Node", "State", "Done", "#Failed", "#Throughput", "Works on"];

export function nodesCard(state, page) {
  const { nodes, is_live: isLive } = state.overview;
  if (!nodes?.length) return null;
  const processes = nodes.flatMap((node) => node.processes);
  const areOpen = isLive && processes.length <= OPEN_UP_TO;
  const rows = nodes.flatMap((node) => nodeRows(node, areOpen !== state.toggled.has(`node ${node.node}`), state, page));
  const aside = `${count(nodes.length, "node")}, ${processCount(processes)}`;
  return card("Nodes", { aside, class: "wide" }, table("Nodes and their processes", HEADINGS, rows));
}

function processCount(processes) {
  return count(processes.length, "process", "processes");
}

function nodeRows(node, isOpen, state, page) {
  const { node: name, processes, task, total, done, failed: bad } = node;
  const { at } = state.overview;
  const key = `node ${name}`;
  const isThis = task && state.taskId === task.task_id && Number(state.mapIndex) === task.map_index;
  const toggle = processes.length > 0 ? disclosure(page, key, isOpen, `Processes of ${name}`, name) : name;
  const shown = bar(total, ["done", done - bad], ["bad", bad]);
  const row = {
    key,
    class: isThis && "this",
    cells: [
      [toggle, isThis && h("span.tag", "this task")],
      link(task?.url, task?.try_number > 1 ? `${node.state}, try ${task.try_number}` : node.state),
      [h("div.inline", shown, `${number(done)} of ${number(total)}`), node.loans.map((loan) => h("div.muted", { key: loan }, loan))],
      failed(bad, number(bad)),
      rate(node.rate),
      summaryOf(processes, at),
    ],
  };
  if (processes.length === 0 || !isOpen) return [row];
  return [row, details(`processes ${name}`, HEADINGS, h("ul.processes", processes.map((process) => processView(process, at))))];
}

function summaryOf(processes, at) {
  const busy = processes.filter((process) => !isMissing(process.mini_batch));
  if (busy.length === 0) return "–";
  const since = Math.min(...busy.map((process) => process.since));
  return `${busy.length} of ${processCount(processes)} busy, longest ${duration(at - since)}`;
}

function processView({ process, mini_batch: batch, since, mini_batches: done, rate: speed, run_s: seconds }, at) {
  const isBusy = !isMissing(batch);
  const now = isBusy ? [`mini-batch ${number(batch)}`, !isMissing(since) && ` for ${duration(at - since)}`] : "idle";
  const title = `${number(done)} mini-batches done, ${rate(speed)}, ${decimal(seconds)} s in run()`;
  return h("li", { key: process, class: isBusy && "busy", title }, h("code", process), h("span.muted", `${number(done)} done`), h("div", now));
}
