/** Numbers, times and states as text. */

const NOTHING = "–";
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const hundredths = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });

export function isMissing(value) {
  return value === null || value === undefined;
}

export function number(value) {
  return isMissing(value) ? NOTHING : whole.format(value);
}

/** Three digits or so: 0.04, 3.1, 42, 1,200. */
export function decimal(value) {
  if (isMissing(value)) return NOTHING;
  const size = Math.abs(value);
  return (size >= 100 ? whole : size >= 1 ? tenths : hundredths).format(value);
}

/** "1 mini-batch", "2,000 mini-batches". */
export function count(value, one, many = `${one}s`) {
  return `${number(value)} ${value === 1 ? one : many}`;
}

export function miniBatches(value) {
  return count(value, "mini-batch", "mini-batches");
}

/** A share that reaches 100 only when nothing is left. */
export function percent(part, total) {
  if (!total) return NOTHING;
  const exact = (100 * part) / total;
  return `${total > 1000 ? tenths.format(Math.floor(10 * exact) / 10) : Math.floor(exact)} %`;
}

export function duration(seconds) {
  if (isMissing(seconds)) return NOTHING;
  if (seconds < 10) return `${tenths.format(Math.max(seconds, 0))} s`;
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}

/** Something per second, or per minute or hour if it is rare. */
export function rate(perSecond) {
  if (isMissing(perSecond)) return NOTHING;
  if (perSecond === 0 || perSecond >= 0.1) return `${decimal(perSecond)} / s`;
  return perSecond * 60 >= 0.1 ? `${decimal(perSecond * 60)} / min` : `${decimal(perSecond * 3600)} / h`;
}

export function bytes(value) {
  if (isMissing(value)) return NOTHING;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = Math.min(Math.floor(Math.log2(Math.max(value, 1)) / 10), units.length - 1);
  return `${decimal(value / 1024 ** power)} ${units[power]}`;
}

/** The time of day, with the date if it is not that of `now`. */
export function clock(seconds, now) {
  if (isMissing(seconds)) return NOTHING;
  const moment = new Date(seconds * 1000);
  const isToday = moment.toDateString() === new Date(now * 1000).toDateString();
  const date = isToday ? {} : { month: "short", day: "numeric" };
  const time = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
  return moment.toLocaleString("en", { ...date, ...time });
}

/** For a tooltip: the exact moment. */
export function moment(seconds) {
  return isMissing(seconds) ? null : new Date(seconds * 1000).toISOString();
}

export const STATES = {
  "not planned": { tone: "idle", icon: "ring", text: "Not planned" },
  planned: { tone: "idle", icon: "ring", text: "Planned" },
  running: { tone: "running", icon: "play", text: "Running" },
  stopped: { tone: "warning", icon: "pause", text: "Stopped" },
  completed: { tone: "success", icon: "check", text: "Completed" },
  aborted: { tone: "failed", icon: "cross", text: "Aborted" },
  failed: { tone: "failed", icon: "cross", text: "Failed" },
  unreadable: { tone: "warning", icon: "warning", text: "Unreadable" },
};

export function stateOf(name) {
  return STATES[name] ?? { tone: "idle", icon: "ring", text: String(name ?? "Unknown") };
}
