"use strict";
// What is folded is a noscript, which costs nothing while the page loads: it is made into elements once it is opened,
// and all of it a little later, so that the browser's search finds it.
const left = [...document.querySelectorAll("details")];
const fill = (details) => {
  const kept = details.querySelector(":scope > noscript");
  if (kept) kept.outerHTML = kept.textContent;
  for (const button of details.querySelectorAll("button.copy")) button.hidden = false;
};
const more = () => {
  left.splice(0, 10).forEach(fill);
  if (left.length) setTimeout(more, 20);
};
const reveal = () => {
  if (location.hash) left.splice(0).forEach(fill);
  const target = document.getElementById(location.hash.slice(1));
  for (let node = target; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
  if (target) target.scrollIntoView();
};
const copy = async ({ target: button }) => {
  if (!button.matches("button.copy")) return;
  const text = button.nextElementSibling;
  getSelection().selectAllChildren(text);
  const copied = navigator.clipboard?.writeText(text.textContent).then(() => true, () => false);
  button.textContent = (await copied) ? "copied" : "selected: press Ctrl+C";
};
addEventListener("load", more);
addEventListener("toggle", (event) => fill(event.target), true);
addEventListener("hashchange", reveal);
addEventListener("click", copy);
reveal();
