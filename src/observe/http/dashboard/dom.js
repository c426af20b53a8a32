// A small virtual DOM. Text becomes text and never HTML: names come from files, and from the network.

/** An element to be: `props` are attributes, but for `key` (who it is among its siblings), `on` (handlers by event) and
 * `drawn` (called with the element each time it is up to date). What is null or false is left out. */
export function h(tag, props, ...children) {
  const shown = children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
  return { tag, props: props || {}, children: shown.map((child) => (typeof child === "object" ? child : String(child))) };
}

/** Make `host`'s children these, and keep what is there already. */
export function patch(host, nodes) {
  const wanted = nodes.flat(Infinity).filter((node) => node !== null && node !== undefined && node !== false);
  const before = host.shown || [];
  const byKey = new Map();
  before.forEach((old, index) => byKey.set(identity(old.node, index), old));
  const focused = document.activeElement;
  host.shown = wanted.map((node, index) => {
    const key = identity(node, index);
    const old = byKey.get(key);
    if (!old) return { node, element: create(node) };
    byKey.delete(key);
    update(old.element, old.node, node);
    return { node, element: old.element };
  });
  for (const gone of byKey.values()) gone.element.remove();
  let place = host.firstChild;
  for (const { element } of host.shown) {
    if (element === place) place = place.nextSibling;
    else host.insertBefore(element, place);
  }
  if (focused && focused !== document.activeElement && host.contains(focused)) focused.focus({ preventScroll: true });
}

const SVG = new Set(["svg", "polyline"]);
const identity = (node, index) => (typeof node === "string" ? `text ${index}` : `${node.tag} ${node.props.key ?? index}`);

function create(node) {
  if (typeof node === "string") return document.createTextNode(node);
  const element = SVG.has(node.tag) ? document.createElementNS("http://www.w3.org/2000/svg", node.tag) : document.createElement(node.tag);
  update(element, { props: {}, children: [] }, node);
  return element;
}

function update(element, old, node) {
  if (typeof node === "string") {
    if (old !== node) element.data = node;
    return;
  }
  for (const name of Object.keys(old.props)) {
    if (!(name in node.props)) set(element, name, null);
  }
  for (const [name, value] of Object.entries(node.props)) {
    if (old.props[name] !== value) set(element, name, value);
  }
  if (node.children.length || old.children.length) patch(element, node.children);
  if (node.props.drawn) node.props.drawn(element);
}

function set(element, name, value) {
  if (name === "key" || name === "drawn") return;
  if (name === "on") {
    for (const [event, handler] of Object.entries(value || {})) element[`on${event}`] = handler;
  } else if (name === "value") {
    if (element.value !== value) element.value = value ?? "";
  } else if (value === null || value === undefined || value === false) {
    element.removeAttribute(name);
  } else {
    element.setAttribute(name, value === true ? "" : value);
  }
}
