/**
 * Views as plain values: h() describes an element, patch() makes the children of a node look like such descriptions.
 *
 * The page also stands alone, without Airflow's React, so it brings these few lines. What is described becomes text nodes
 * and attributes, never HTML: nothing that a run contains can become markup. What exists is kept, with its focus, its
 * selection and its scroll position.
 */

const SVG = "http://www.w3.org/2000/svg";
const described = new WeakMap();

/**
 * Describe an element: its tag with its classes ("div.card"), its properties if it has any, its children.
 *
 * Properties are attributes, except: `key` (finds the same element again among its siblings), `on…` (handlers), `style` (an
 * object; the Content-Security-Policy refuses style attributes), `initial` (the value that a field has at first) and
 * `created` (called with the element when it is in the document).
 */
export function h(name, ...parts) {
  const [tag, ...classes] = name.split(".");
  const props = parts[0]?.constructor === Object && !parts[0].tag ? parts.shift() : {};
  const names = [...classes, props.class].filter(Boolean).join(" ") || null;
  const children = parts.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
  return { tag, props: { ...props, class: names }, children };
}

/** Make the children of a node look like the descriptions. */
export function patch(parent, views) {
  const byKey = new Map([...parent.childNodes].map((node) => [described.get(node)?.key, node]));
  let next = parent.firstChild;
  for (const view of views) {
    const known = view.props?.key === undefined ? next : byKey.get(view.props.key);
    const node = fits(known, view) ? known : create(parent, view);
    if (node === next) next = node.nextSibling;
    else parent.insertBefore(node, next);
    update(node, view);
    if (node !== known) view.props?.created?.(node);
  }
  while (next) {
    const gone = next;
    next = next.nextSibling;
    gone.remove();
  }
}

function fits(node, { tag, props }) {
  if (!node || tag === undefined) return node?.nodeType === Node.TEXT_NODE;
  return node.localName === tag && described.get(node)?.key === props.key;
}

function create(parent, { tag }) {
  if (tag === undefined) return document.createTextNode("");
  const isSvg = tag === "svg" || parent.namespaceURI === SVG;
  return isSvg ? document.createElementNS(SVG, tag) : document.createElement(tag);
}

function update(node, view) {
  if (view.tag === undefined) {
    if (node.data !== String(view)) node.data = view;
    return;
  }
  const before = described.get(node) ?? {};
  described.set(node, view.props);
  for (const name of Object.keys({ ...before, ...view.props })) {
    if (before[name] !== view.props[name]) set(node, name, view.props[name], before[name]);
  }
  patch(node, view.children);
}

function set(node, name, value, before) {
  if (name === "key" || name === "created") return;
  if (name === "initial") {
    if (before === undefined) node.value = value;
  } else if (name === "style") {
    for (const [property, wanted] of Object.entries(value)) node.style.setProperty(property, wanted);
  } else if (name.startsWith("on")) {
    node[name] = value ?? null;
  } else if (value === undefined || value === null || value === false) {
    node.removeAttribute(name);
  } else {
    node.setAttribute(name, value === true ? "" : value);
  }
}
