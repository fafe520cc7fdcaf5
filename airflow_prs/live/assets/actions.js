/** What a reader can do to a run. Each action says first what it will do, and how to do the same from a shell. */

import { h } from "./dom.js";
import { changedLimits, limitsForm } from "./limits.js";
import { button, commandLine, link } from "./parts.js";
import { clear, read, send, stepPath } from "./server.js";
import { count, number } from "./words.js";

/** In the order of their buttons. */
export const ACTIONS = {
  publish: { text: "Publish", done: "Cleared. gatekeeper and merge run again.", clears: true },
  retry: { text: "Retry failed mini-batches", done: "Cleared. The failed mini-batches run again.", clears: true },
  resume: { text: "Resume", done: "Cleared. The run continues where it stopped.", clears: true },
  limits: { text: "Change limits", done: "Changed." },
  drain: { text: "Drain", done: "The nodes finish the calls of run() that are in flight, and stop.", aborts: true },
  cancel: { text: "Cancel", done: "The nodes stop now.", aborts: true, isDanger: true },
};
const TASKS_SHOWN = 8;

export function actionButtons({ actions }, page) {
  if (!actions) return null;
  // To publish again is rarely of use, so it is shown only where it is possible.
  const isShown = (name) => actions[name] && (actions[name].can || name !== "publish");
  const one = (name) => {
    const { text, isDanger } = ACTIONS[name];
    const { can, why } = actions[name];
    const kind = can ? isDanger && "danger" : "cannot";
    return button(text, () => page.open(name), { key: name, class: kind, title: why });
  };
  return h("div.actions", { role: "group", "aria-label": "Actions" }, Object.keys(ACTIONS).filter(isShown).map(one));
}

/** The functions of the page that open, close and confirm the dialog of an action. */
export function createActions(state, page) {
  /** Change the dialog, unless it was closed meanwhile. */
  function change(dialog, changes) {
    if (state.dialog === dialog) page.update({ dialog: Object.assign(dialog, changes) });
  }

  async function trying(dialog, act) {
    change(dialog, { isBusy: true, error: null });
    try {
      await act();
    } catch (error) {
      change(dialog, { error: error.message });
    }
    change(dialog, { isBusy: false });
  }

  function open(name) {
    const action = state.overview.actions[name];
    const dialog = { name, action, isBusy: false, error: null, clearing: null, isDone: false };
    page.update({ dialog });
    if (!action.can || !ACTIONS[name].clears) return;
    void trying(dialog, async () => change(dialog, { clearing: await read(`${stepPath(state)}/clearing?action=${name}`) }));
  }

  async function act(dialog, form) {
    const { name } = dialog;
    const { aborts, clears } = ACTIONS[name];
    const path = stepPath(state);
    if (aborts) await send(`${path}/abort`, { kind: name });
    else if (clears) await clear(dialog.clearing.calls);
    else change(dialog, await send(`${path}/limits`, changedLimits(form, state.overview.thresholds)));
    change(dialog, { isDone: true });
    page.refresh();
  }

  return {
    open,
    close: () => page.update({ dialog: null }),
    confirm: (form) => trying(state.dialog, () => act(state.dialog, form)),
  };
}

export function dialogView(state, page) {
  const { dialog, overview } = state;
  if (!dialog) return null;
  const { name, action, error, isBusy, isDone, clearing } = dialog;
  const { text, clears, isDanger } = ACTIONS[name];
  const isReady = action.can && !isDone && (!clears || clearing);
  const onsubmit = (event) => {
    event.preventDefault();
    void page.confirm(event.currentTarget);
  };
  const content = isDone ? doneView(dialog, overview, page) : askingView(dialog, overview);
  const confirm = { class: isDanger ? "danger-solid" : "primary", type: "submit", disabled: isBusy };
  return h(
    "dialog",
    { key: `dialog ${name}`, "aria-labelledby": "prs-dialog-title", created: (element) => element.showModal(), onclose: page.close },
    h(
      "form",
      { onsubmit, novalidate: true },
      h("h3", { id: "prs-dialog-title" }, text),
      content,
      isBusy && !isReady && h("p.muted", { role: "status" }, "Asking the server …"),
      error && h("p.notice.failed", { role: "alert", key: "error" }, error),
      h(
        "footer",
        null,
        button(isReady ? "Go back" : "Close", page.close),
        isReady && h("button.button", { key: "confirm", ...confirm }, isBusy ? "Working …" : confirmText(dialog, text)),
      ),
    ),
  );
}

function confirmText({ clearing }, text) {
  return clearing ? `${text}: clear ${count(clearing.tasks.length, "task")}` : text;
}

function askingView({ name, action, clearing }, overview) {
  const { can, why, command } = action;
  const hint = can ? "The same from a shell:" : "The page cannot do this now. The command for a shell:";
  return h(
    "div",
    { key: "asking" },
    h("p", clearing?.what || why),
    clearing && taskList(clearing.tasks),
    can && name === "limits" && limitsForm(overview.thresholds),
    h("p.muted", hint),
    commandLine(command),
  );
}

function taskList(tasks) {
  const item = ({ task_id: id, map_index: index, url }) => h("li", link(url, index >= 0 ? `${id}[${index}]` : id));
  const rest = tasks.length - TASKS_SHOWN;
  return h("ul.list", tasks.slice(0, TASKS_SHOWN).map(item), rest > 0 && h("li.muted", `and ${number(rest)} more`));
}

/** New limits do not publish a run that has ended: gatekeeper and merge must run again. */
function doneView({ name, changed }, overview, page) {
  const canPublish = name === "limits" && overview.actions.publish?.can;
  return h(
    "div",
    { key: "done", role: "status" },
    h("p", ACTIONS[name].done, changed && ` ${changed}`),
    canPublish && h("p", "The run has ended. To judge it by the new limits, run gatekeeper and merge again: ", button("Publish …", () => page.open("publish"))),
  );
}
