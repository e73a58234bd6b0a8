// CT and slide with one cursor. The browser only draws and asks: where a place lies in the other image is answered by Python.

const SVG = "http://www.w3.org/2000/svg";
const PRESETS = [["wide", "Wide"], ["lung", "Lung"], ["soft", "Soft tissue"]];
const KEPT_SLICES = 96; // PNGs kept in the page: about 10 MB of a chest CT

function element(tag, className, parent, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  if (parent) parent.append(node);
  return node;
}

function shape(tag, attributes, parent) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  parent.append(node);
  return node;
}

function niceLength(span) {
  const target = span / 4;
  const power = 10 ** Math.floor(Math.log10(target));
  return Math.max(...[1, 2, 5].filter((f) => f * power <= target)) * power;
}

// One picture in a stage: fits the picture to the stage keeping physical proportions, and draws cursor, error and scale over it.
class Stage {
  constructor(parent, kind, width, height, label) {
    this.size = [width, height]; // physical, in the picture's own unit
    this.node = element("div", `stage ${kind}`, parent);
    this.node.tabIndex = 0;
    this.node.setAttribute("role", "img");
    this.node.setAttribute("aria-label", label);
    this.image = element("img", "", this.node);
    this.image.alt = "";
    this.image.draggable = false;
    this.svg = shape("svg", {}, this.node);
  }

  // Scale in screen px per unit, and where the picture's upper left corner is.
  fit() {
    const { clientWidth: w, clientHeight: h } = this.node;
    const scale = Math.min(w / this.size[0], h / this.size[1]);
    return { scale, left: (w - scale * this.size[0]) / 2, top: (h - scale * this.size[1]) / 2 };
  }

  place() {
    const { scale, left, top } = this.fit();
    Object.assign(this.image.style, {
      left: `${left}px`, top: `${top}px`, width: `${scale * this.size[0]}px`, height: `${scale * this.size[1]}px`,
    });
  }

  // Position of a pointer in the picture's unit, from its upper left corner.
  position(event) {
    const box = this.node.getBoundingClientRect();
    const { scale, left, top } = this.fit();
    return [(event.clientX - box.left - this.node.clientLeft - left) / scale, (event.clientY - box.top - this.node.clientTop - top) / scale];
  }

  draw(point, radius, scaleText, unitsPerBar) {
    this.place();
    this.svg.replaceChildren();
    const { scale, left, top } = this.fit();
    if (point) {
      const [x, y] = [left + point[0] * scale, top + point[1] * scale];
      if (radius) shape("circle", { class: "error", cx: x, cy: y, r: Math.max(2, radius * scale) }, this.svg);
      const d = `M${x - 14} ${y}H${x - 4}M${x + 4} ${y}H${x + 14}M${x} ${y - 14}V${y - 4}M${x} ${y + 4}V${y + 14}`;
      shape("path", { class: "rim", d }, this.svg);
      shape("path", { class: "mark", d }, this.svg);
    }
    const bar = niceLength(this.node.clientWidth / scale);
    const [x0, y0] = [14, this.node.clientHeight - 14];
    shape("path", { class: "rim", d: `M${x0} ${y0}h${bar * scale}` }, this.svg).style.strokeWidth = "5";
    shape("path", { class: "scale", d: `M${x0} ${y0}h${bar * scale}` }, this.svg);
    shape("text", { class: "scale-text", x: x0 + (bar * scale) / 2, y: y0 - 6 }, this.svg).textContent = scaleText(bar * unitsPerBar);
  }
}

function render({ model, el }) {
  const root = element("div", "idx-linked", el);
  const panes = element("div", "panes", root);
  const ct = model.get("ct");
  const slide = model.get("slide");
  const hasCt = Boolean(ct.shape);
  const hasSlide = Boolean(slide.size_um);
  const stops = []; // undone when the view goes away
  let z = 0;
  let followed = true; // whether the slider follows the cursor
  const slices = new Map();
  let asked = null;
  let ctStage, slideStage, slider, ctWhere, slideWhere;

  // --- CT -------------------------------------------------------------------------------------------------------------
  if (hasCt) {
    const [depth, rows, columns] = ct.shape;
    const pane = element("div", "pane", panes);
    const head = element("div", "head", pane);
    element("b", "", head, "CT");
    ctWhere = element("span", "where", head);
    const presets = element("div", "presets", head);
    presets.setAttribute("role", "group");
    presets.setAttribute("aria-label", "Window");
    for (const [name, label] of PRESETS) {
      const button = element("button", "", presets, label);
      button.type = "button";
      button.dataset.window = name;
      button.addEventListener("click", () => { model.set("window", name); model.save_changes(); });
    }
    ctStage = new Stage(pane, "ct", columns * ct.spacing_mm[0], rows * ct.spacing_mm[1], "Axial CT slice");
    slider = element("input", "slider", pane);
    Object.assign(slider, { type: "range", min: 0, max: depth - 1, step: 1 });
    slider.setAttribute("aria-label", "Slice");
    slider.addEventListener("input", () => { z = Number(slider.value); followed = false; show(); });
    const point = (event) => {
      const [x, y] = ctStage.position(event);
      const pixel = [x / ct.spacing_mm[0] - 0.5, y / ct.spacing_mm[1] - 0.5, z];
      if (pixel[0] >= -0.5 && pixel[0] <= columns - 0.5 && pixel[1] >= -0.5 && pixel[1] <= rows - 0.5) ask({ kind: "ct", pixel });
    };
    drag(ctStage.node, point, false);
    ctStage.node.addEventListener("wheel", (event) => {
      event.preventDefault();
      z = Math.min(depth - 1, Math.max(0, z - Math.sign(event.deltaY)));
      followed = false;
      show();
    }, { passive: false });
  }

  // --- slide ----------------------------------------------------------------------------------------------------------
  if (hasSlide) {
    const pane = element("div", "pane", panes);
    const head = element("div", "head", pane);
    element("b", "", head, "Slide");
    slideWhere = element("span", "where", head);
    slideStage = new Stage(pane, "slide", slide.size_um[0], slide.size_um[1], `Slide ${slide.name}`);
    const bytes = model.get("slide_jpeg");
    const url = URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" }));
    slideStage.image.src = url;
    stops.push(() => URL.revokeObjectURL(url));
    // The origin of slide coordinates is the centre of the first pixel, half a pixel inside the picture's corner.
    drag(slideStage.node, (event) => {
      const [x, y] = slideStage.position(event);
      if (x >= 0 && y >= 0 && x <= slide.size_um[0] && y <= slide.size_um[1]) ask({ kind: "slide", um: [x - slide.mpp[0] / 2, y - slide.mpp[1] / 2] });
    }, true);
  }

  const foot = element("div", `foot${model.get("is_linked") ? "" : " unlinked"}`, root);
  element("span", "message", foot, model.get("message"));
  const distance = element("span", "distance", foot);

  // --- talking to Python ----------------------------------------------------------------------------------------------
  let frame = null;
  let pending = null;
  // One question per frame: a mouse sends more positions than a kernel should answer.
  function ask(content) {
    pending = content;
    followed = true;
    if (frame === null) frame = requestAnimationFrame(() => { frame = null; model.send(pending); });
  }

  function drag(node, point, onHover) {
    let held = false;
    node.addEventListener("pointerdown", (event) => { held = true; node.setPointerCapture(event.pointerId); point(event); });
    node.addEventListener("pointermove", (event) => { if (held || onHover) point(event); });
    node.addEventListener("pointerup", () => { held = false; });
    node.addEventListener("pointercancel", () => { held = false; });
  }

  const key = () => `${model.get("window")}:${z}`;

  function show() {
    if (hasCt) {
      slider.value = z;
      const kept = slices.get(key());
      if (kept) ctStage.image.src = kept;
      else request();
    }
    mark();
  }

  // One slice under way at a time; the newest wish is asked for when it has come.
  function request() {
    if (asked !== null) return;
    asked = key();
    model.send({ kind: "slice", z, window: model.get("window") });
  }

  function received(content, buffers) {
    if (content.kind !== "slice") return;
    const name = `${content.window}:${content.z}`;
    slices.set(name, URL.createObjectURL(new Blob([buffers[0]], { type: "image/png" })));
    if (slices.size > KEPT_SLICES) {
      const [oldest, url] = slices.entries().next().value;
      slices.delete(oldest);
      URL.revokeObjectURL(url);
    }
    asked = null;
    show();
  }

  function moved() {
    const pixel = model.get("value").ct_pixel;
    if (pixel && followed && hasCt) z = Math.min(ct.shape[0] - 1, Math.max(0, Math.round(pixel[2])));
    show();
  }

  const mm = (value, digits = 1) => value.toFixed(digits).replace("-", "−");

  function mark() {
    const { ct_pixel: pixel, ct_mm: point, slide_um: um, distance_mm: away } = model.get("value");
    if (hasCt) {
      const here = pixel && Math.round(pixel[2]) === z;
      ctStage.draw(here ? [(pixel[0] + 0.5) * ct.spacing_mm[0], (pixel[1] + 0.5) * ct.spacing_mm[1]] : null, model.get("error_mm"), (bar) => `${bar} mm`, 1);
      ctWhere.textContent = here && point ? `x ${mm(point[0])}, y ${mm(point[1])}, z ${mm(point[2])} mm` : `z ${mm(ct.z_mm[z])} mm`;
      for (const button of root.querySelectorAll(".presets button")) button.setAttribute("aria-pressed", String(button.dataset.window === model.get("window")));
    }
    if (hasSlide) {
      slideStage.draw(um ? [um[0] + slide.mpp[0] / 2, um[1] + slide.mpp[1] / 2] : null, model.get("error_um"), (bar) => (bar >= 1000 ? `${bar / 1000} mm` : `${bar} µm`), 1);
      slideWhere.textContent = um ? `${mm(um[0] / 1000, 2)}, ${mm(um[1] / 1000, 2)} mm` : "";
    }
    distance.textContent = model.get("is_linked") && um && point ? `${mm(Math.abs(away), 2)} mm from the slide's plane` : "";
  }

  const onWindow = () => show();
  model.on("msg:custom", received);
  model.on("change:value", moved);
  model.on("change:window", onWindow);
  const observer = new ResizeObserver(mark);
  observer.observe(root);
  stops.push(
    () => observer.disconnect(),
    () => model.off("msg:custom", received),
    () => model.off("change:value", moved),
    () => model.off("change:window", onWindow),
    () => slices.forEach((url) => URL.revokeObjectURL(url)),
  );
  moved();
  return () => stops.forEach((stop) => stop());
}

export default { render };
