// Looks at the pages that are loaded in this document's frames, as wide as the frames are, and writes
// what is wrong with them into the document, one line each. Ends with the number of pages seen.
"use strict";

function complaintsAbout(frame, pages) {
  const page = frame.contentDocument;
  const complaints = [];
  const complain = (text) => complaints.push(`${page.URL}, ${frame.width} pixels wide: ${text}`);
  const width = frame.contentWindow.innerWidth;

  withoutTransitions(page);
  if (!page.title) complain("no title");
  if (page.documentElement.scrollWidth > width)
    complain(`scrolls sideways: ${page.documentElement.scrollWidth} pixels`);
  for (const image of page.images)
    if (image.naturalWidth === 0) complain(`image ${image.getAttribute("src")} doesn't load`);

  // A text that is cut off cannot be scrolled to either.
  for (const element of page.querySelectorAll(".md-content pre, .md-content table, .md-content img"))
    if (element.getBoundingClientRect().right > width && !scrollsInside(element, frame.contentWindow))
      complain(`<${element.localName}> is cut off: ${element.textContent.trim().slice(0, 40)}`);

  const text = page.body.cloneNode(true);
  text.querySelectorAll("pre, code, script").forEach((element) => element.remove());
  if (text.textContent.includes("<!--")) complain("shows a comment of its source");

  for (const link of page.querySelectorAll("a[href]")) {
    const target = new URL(link.href);
    if (target.protocol !== "file:") continue;
    const place = decodeURIComponent(target.hash.slice(1));
    const file = decodeURIComponent(target.pathname);
    if (!pages.has(file)) complaints.push(`file ${file}`);  // For who called us to look for.
    else if (place && !place.startsWith("__") && !pages.get(file).getElementById(place))
      complain(`link ${link.getAttribute("href")} leads to no such place`);
  }

  for (const mode of ["default", "slate"])
    for (const text of hardToRead(frame.contentWindow, mode)) complain(text);
  if (!contentsCanBeSeen(page, width)) complain("the table of contents cannot be seen");
  return complaints;
}

// Texts whose contrast is below what WCAG asks for (level AA): 4.5, and 3 for large ones. One line for each
// kind of element and pair of colours.
function hardToRead(window, mode) {
  const page = window.document;
  page.body.setAttribute("data-md-color-scheme", mode);
  const found = new Set();
  const layers = new Map();
  const seen = new Set();
  const texts = page.createTreeWalker(page.body, window.NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || seen.has(element)) continue;
    seen.add(element);
    const below = layerOf(element, window, layers);
    if (!canBeSeen(element, window, below)) continue;
    const style = window.getComputedStyle(element);
    const size = parseFloat(style.fontSize);
    const least = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
    const [red, green, blue, alpha] = parts(style.color);
    const ratio = contrast(mixed([red, green, blue, alpha * below.opacity], below.background), below.background);
    if (ratio < least)
      found.add(`${mode}: <${element.localName} class="${element.className}"> has a contrast of ` +
                `${ratio.toFixed(1)}: ${texts.currentNode.data.trim().slice(0, 30)}`);
  }
  return found;
}

function canBeSeen(element, window, layer) {
  if (["SCRIPT", "STYLE", "NOSCRIPT", "TITLE"].includes(element.nodeName) || layer.opacity === 0) return false;
  if (element.closest(".headerlink, [hidden], [aria-hidden=true]")) return false;
  const box = element.getBoundingClientRect();
  return box.width > 1 && box.height > 1 && window.getComputedStyle(element).visibility === "visible";
}

// What lies below an element's text: the background that all layers together make, and the opacity of the
// text. `layers` remembers them.
function layerOf(element, window, layers) {
  if (!element) return {background: [255, 255, 255, 1], opacity: 1};
  if (!layers.has(element)) {
    const below = layerOf(element.parentElement, window, layers);
    const style = window.getComputedStyle(element);
    layers.set(element, {background: mixed(parts(style.backgroundColor), below.background),
                         opacity: below.opacity * style.opacity});
  }
  return layers.get(element);
}

// "rgb(1, 2, 3)" or "rgba(1, 2, 3, 0.5)" as four numbers.
function parts(colour) {
  const [red, green, blue, alpha = 1] = colour.match(/[\d.]+/g).map(Number);
  return [red, green, blue, alpha];
}

function mixed(front, back) {
  return [0, 1, 2].map((n) => front[n] * front[3] + back[n] * (1 - front[3])).concat(1);
}

function contrast(one, other) {
  const [darker, lighter] = [one, other].map(luminance).sort((a, b) => a - b);
  return (lighter + 0.05) / (darker + 0.05);
}

function luminance(colour) {
  const [red, green, blue] = colour.slice(0, 3).map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

// Colours and places are what they become, at once.
function withoutTransitions(page) {
  const still = page.createElement("style");
  still.textContent = "* { transition: none !important }";
  page.head.append(still);
}

function scrollsInside(element, window) {
  for (let at = element; at; at = at.parentElement)
    if (["auto", "scroll"].includes(window.getComputedStyle(at).overflowX)) return true;
  return false;
}

// On a narrow page they are behind a button.
function contentsCanBeSeen(page, width) {
  const contents = page.querySelector(".md-sidebar--primary");
  const button = page.querySelector("label.md-header__button[for=__drawer]");
  if (!contents || !button) return false;
  if (button.getBoundingClientRect().width > 0) button.click();
  const box = contents.getBoundingClientRect();
  return box.width > 0 && box.left >= 0 && box.right <= width;
}

onload = () => {
  const frames = [...document.querySelectorAll("iframe")];
  const pages = new Map(
    frames.map((frame) => [decodeURIComponent(new URL(frame.src).pathname), frame.contentDocument]));
  const lines = frames.flatMap((frame) => complaintsAbout(frame, pages));
  document.body.textContent = [...new Set(lines), `${frames.length} seen`].join("\n");
};
