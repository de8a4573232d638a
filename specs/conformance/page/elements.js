"use strict";
// -- Elements.  Everything is set as text: nothing that a server said is ever markup. ------------
const $ = (query, where = document) => where.querySelector(query);

function make(tag, text = "", classes = "", attributes = {}) {
  const made = document.createElement(tag);
  if (text !== "") made.textContent = text;
  if (classes) made.className = classes;
  Object.entries(attributes).forEach(([name, value]) => made.setAttribute(name, value));
  return made;
}

function within(outer, ...inner) {
  outer.append(...inner.filter((each) => each !== "" && each !== null));
  return outer;
}

// A list of terms; what is empty is left out.
function terms(...pairs) {
  const list = make("dl");
  pairs.filter(([, shown]) => shown && shown.length !== 0).forEach(([name, shown]) => {
    list.append(make("dt", name), shown instanceof Node ? within(make("dd"), shown) : make("dd", shown));
  });
  return list;
}

const classOf = (verdict) => verdict.replaceAll(" ", "-");

