// Looks at the pages that are loaded in this document's frames, as wide as the frames are, and writes
// what is wrong with them into the document, one line each. Ends with the number of pages seen.
"use strict";

function complaintsAbout(frame, pages) {
  const page = frame.contentDocument;
  const complaints = [];
  const complain = (text) => complaints.push(`${page.URL}, ${frame.width} pixels wide: ${text}`);
  const width = frame.contentWindow.innerWidth;

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

  if (!contentsCanBeSeen(page, width)) complain("the table of contents cannot be seen");
  return complaints;
}

function scrollsInside(element, window) {
  for (let at = element; at; at = at.parentElement)
    if (["auto", "scroll"].includes(window.getComputedStyle(at).overflowX)) return true;
  return false;
}

// On a narrow page they are behind a button.
function contentsCanBeSeen(page, width) {
  const still = page.createElement("style");
  still.textContent = "* { transition: none !important }";
  page.head.append(still);
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
