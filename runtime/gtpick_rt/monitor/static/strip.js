/* The last micrographs as small pictures, the newest at the right: a list box with the arrow keys. */

import { preview } from "./api.js";
import { basename, counted, integer, make, roving } from "./dom.js";

export const LENGTH = 24;

/** `onSelect(id)` when one is chosen by mouse or keys. */
export class Strip {
  constructor(list, onSelect) {
    this.list = list;
    this.rows = [];
    this.selected = null;
    this.onSelect = onSelect;
    list.addEventListener("click", (event) => this.#choose(event.target.closest("li")));
    list.addEventListener("roved", (event) => this.#choose(event.target));
    roving(list, () => [...list.children].reverse());
  }

  /** `rows`: newest first. */
  fill(rows) {
    this.rows = rows.slice(0, LENGTH);
    this.list.replaceChildren(...this.rows.map((row) => this.#item(row)));
    this.select(this.selected);
  }

  /** Put a new one, or one that was picked again, in front. */
  add(row) {
    const known = this.rows.findIndex((each) => each.id === row.id);
    if (known >= 0) {
      this.rows[known] = row;
      this.list.children[known].replaceWith(this.#item(row));
    } else {
      this.rows = [row, ...this.rows].slice(0, LENGTH);
      this.list.prepend(this.#item(row));
      while (this.list.children.length > LENGTH) this.list.lastElementChild.remove();
    }
    this.select(this.selected);
  }

  /** Mark the one that is shown; it may be none of these. */
  select(id) {
    this.selected = id;
    const items = [...this.list.children];
    const shown = items.find((item) => item.dataset.id === String(id));
    for (const item of items) {
      item.setAttribute("aria-selected", String(item === shown));
      item.tabIndex = item === (shown ?? items[0]) ? 0 : -1;
    }
    if (shown) {
      const { offsetLeft, offsetWidth } = shown;
      const { scrollLeft, clientWidth } = this.list;
      if (offsetLeft < scrollLeft || offsetLeft + offsetWidth > scrollLeft + clientWidth)
        this.list.scrollLeft = offsetLeft - clientWidth / 2 + offsetWidth / 2;
    }
  }

  #choose(item) {
    if (item) this.onSelect(Number(item.dataset.id));
  }

  #item(row) {
    const flags = row.flags.length ? `, ${row.flags.join(", ")}` : "";
    const item = make(
      "li",
      { role: "option", tabIndex: -1, title: `${row.name}${flags}`, dataset: { id: row.id } },
      make("img", { src: `${preview(row.id)}?t=${encodeURIComponent(row.time)}`, alt: "", loading: "lazy", decoding: "async", draggable: false }),
      make("span", { className: "picks" }, integer(row.picks)),
      make("span", { className: "marks" }, ...row.flags.map((name) => make("i", { dataset: { flag: name.replaceAll(" ", "-") } }))),
    );
    item.setAttribute("aria-label", `${basename(row.name)}: ${counted(row.picks, "pick")}${flags}`);
    return item;
  }
}
