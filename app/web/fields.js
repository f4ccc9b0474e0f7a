// Fields of a form, made from their schema in the OpenAPI description: names, bounds, defaults and
// words are the service's own.

import { h } from "./dom.js";

const LABELS = {
  items_count: "Items",
  db: "Database",
  cache: "Cache",
  db_delay_ms: "Database delay (ms)",
  redis_delay_ms: "Cache delay (ms)",
  simulate_db_delay: "Simulate the database's delay",
  simulate_redis_delay: "Simulate the cache's delay",
  io_concurrency: "I/O concurrency",
  cpu_iterations: "CPU iterations",
  items: "Your own items (JSON)",
  exact: "Exact: measure every cell on all items",
};

/** What may be entered where the schema allows any name. */
const SUGGESTIONS = { db: ["simulated", "pinot", "none"], cache: ["simulated", "redis", "none"] };

function label(name) {
  const last = name.split(".").pop();
  if (LABELS[last]) return LABELS[last];
  const text = last.replace(/_seconds$/, " (s)").replace(/_ms$/, " (ms)").replaceAll("_", " ");
  return text[0].toUpperCase() + text.slice(1);
}

/** The schema itself, without references and without `null`, and whether `null` is allowed. */
function resolved(schema, components) {
  if (schema.$ref) {
    const target = components[schema.$ref.split("/").pop()];
    return resolved({ ...target, ...schema, $ref: undefined }, components);
  }
  const choices = schema.anyOf?.filter((choice) => choice.type !== "null");
  if (choices?.length === 1) return resolved({ ...choices[0], ...schema, anyOf: undefined }, components);
  return schema;
}

/** The fields of an object's schema, those of objects in it too, with dotted names. */
export function fieldsOf(schema, components, prefix = "") {
  return Object.entries(resolved(schema, components).properties).flatMap(([key, value]) => {
    const spec = resolved(value, components);
    const name = prefix + key;
    return spec.properties ? fieldsOf(spec, components, `${name}.`) : [{ name, spec }];
  });
}

/** The same of the query of an operation. */
export const queryFields = (operation, components) =>
  operation.parameters.filter((parameter) => parameter.in === "query").map(({ name, description, schema }) => ({
    name, spec: { description, ...resolved(schema, components) },
  }));

const amount = (value) => value.toLocaleString("en", { maximumFractionDigits: 6 });

function hint(spec, isChosen) {
  const { minimum, maximum } = spec.prefixItems?.[0] ?? spec;
  const words = (spec.description ?? "").replaceAll("`", "").replace(/\s+/g, " ");
  const bounds = minimum !== undefined && maximum !== undefined ? ` ${amount(minimum)} … ${amount(maximum)}.` : "";
  return `${words}${bounds}${isChosen ? " Chosen for you when left empty." : ""}`.trim();
}

const textOf = (value) => (value === null || value === undefined ? "" : String(value));

/** A field: `node` to show, `read()` for its value as JSON (undefined when it is the default),
 * `refuse(message)`, and `fill(value)`.
 *
 * `isChosen`: the service chooses when nothing is entered, so a default is entered nowhere. */
export function makeField({ name, spec }, formId, { isChosen = false, options, disabled = {} } = {}) {
  const id = `${formId}-${name.replaceAll(".", "-")}`;
  const fault = h("p", { class: "fault", id: `${id}-fault` });
  const about = h("p", { class: "hint", id: `${id}-hint` }, hint(spec, isChosen));
  const shared = { id, name, "aria-describedby": `${id}-hint ${id}-fault` };
  const field = { name, id, isWide: false };
  let inputs;
  let start = isChosen ? undefined : spec.default;

  if (options || spec.enum) {
    const names = options ?? spec.enum;
    const first = isChosen || (start === undefined && !names.includes("auto")) ? [h("option", { value: "" }, "any")] : [];
    const input = h("select", shared, first, names.map((value) =>
      h("option", { value, disabled: value in disabled }, value in disabled ? `${value} (not available)` : value)));
    inputs = [input];
    field.read = () => (input.value === textOf(start) ? undefined : input.value);
    field.fill = (value) => { input.value = textOf(value); };
  } else if (spec.type === "boolean") {
    const input = h("input", { ...shared, type: "checkbox" });
    inputs = [input];
    field.read = () => (input.checked === Boolean(start) ? undefined : input.checked);
    field.fill = (value) => { input.checked = Boolean(value); };
  } else if (spec.prefixItems) {
    inputs = ["least", "most"].map((word, i) => h("input", {
      ...shared, id: i ? `${id}-most` : id, "aria-label": `${label(name)}, ${word}`, type: "number", step: "any",
      inputmode: "decimal", min: spec.prefixItems[i].minimum, max: spec.prefixItems[i].maximum,
    }));
    field.read = () => {
      const pair = inputs.map(number);
      return pair.join() === textOf(start) ? undefined : pair;
    };
    field.fill = (value) => inputs.forEach((input, i) => { input.value = textOf(value?.[i]); });
  } else if (spec.type === "array") {
    const input = h("textarea", { ...shared, rows: 3, spellcheck: "false", placeholder: '[{"item_id": 1, "value": 0.5, "offset": 7}]' });
    inputs = [input];
    field.isWide = true;
    field.read = () => (input.value.trim() ? JSON.parse(input.value) : undefined);
    field.fill = (value) => { input.value = value ? JSON.stringify(value) : ""; };
  } else if (["integer", "number"].includes(spec.type)) {
    const input = h("input", {
      ...shared, type: "number", min: spec.minimum, max: spec.maximum, step: spec.type === "integer" ? 1 : "any",
      inputmode: spec.type === "integer" ? "numeric" : "decimal", placeholder: isChosen ? "chosen" : "none",
    });
    inputs = [input];
    field.read = () => {
      const value = number(input);
      return value === (start ?? undefined) ? undefined : value;
    };
    field.fill = (value) => { input.value = textOf(value); };
  } else {
    const suggested = SUGGESTIONS[name];
    const input = h("input", { ...shared, type: "text", maxlength: spec.maxLength, autocapitalize: "off", autocomplete: "off",
      spellcheck: "false", placeholder: "default", list: suggested && `${id}-list` });
    inputs = [input];
    if (suggested) about.append(h("datalist", { id: `${id}-list` }, suggested.map((value) => h("option", { value }))));
    field.read = () => (input.value === textOf(start) ? undefined : input.value.trim() || undefined);
    field.fill = (value) => { input.value = textOf(value); };
  }
  field.reset = () => field.fill(start);
  field.refuse = (message) => {
    fault.textContent = message;
    for (const input of inputs) input.setAttribute("aria-invalid", "true");
  };
  field.clear = () => {
    fault.textContent = "";
    for (const input of inputs) input.removeAttribute("aria-invalid");
  };
  field.focus = () => inputs[0].focus();
  field.reset();
  field.node = shell(inputs, id, label(name), about, fault, field.isWide);
  return field;
}

function shell(inputs, id, text, about, fault, isWide) {
  const kind = isWide ? "field wide" : "field";
  if (inputs[0].type === "checkbox") {
    return h("div", { class: `${kind} check` }, inputs[0], h("label", { for: id }, text), about, fault);
  }
  const title = inputs.length > 1 ? h("span", { class: "label", "aria-hidden": "true" }, text) : h("label", { for: id }, text);
  return h("div", { class: kind }, title, inputs.length > 1 ? h("div", { class: "pair" }, inputs) : inputs, fault, about);
}

/** Boxes to check, for a list of names; all of them checked is no choice. */
export function makeChoices({ name, spec }, formId, names, disabled = {}) {
  const id = `${formId}-${name}`;
  const fault = h("p", { class: "fault", id: `${id}-fault` });
  const boxes = names.map((value) =>
    h("input", { type: "checkbox", id: `${id}-${value}`, name, value, disabled: value in disabled }));
  const checked = () => boxes.filter((box) => box.checked).map((box) => box.value);
  const field = { name, id, isWide: true };
  field.fill = (values) => boxes.forEach((box) => { box.checked = !box.disabled && (!values || values.includes(box.value)); });
  field.reset = () => field.fill(null);
  field.read = () => (boxes.every((box) => box.checked || box.disabled) ? undefined : checked());
  field.refuse = (message) => { fault.textContent = message; };
  field.clear = () => { fault.textContent = ""; };
  field.focus = () => boxes[0].focus();
  field.node = h("fieldset", { class: "field wide choices", "aria-describedby": `${id}-hint ${id}-fault` },
    h("legend", {}, label(name)),
    h("div", { class: "boxes" }, boxes.map((box) => h("label", { for: box.id }, box, box.value))),
    fault, h("p", { class: "hint", id: `${id}-hint` }, hint(spec)));
  field.reset();
  return field;
}

/** Raises a SyntaxError with words for the reader when what is entered is no number. */
function number(input) {
  if (input.validity.badInput) throw new SyntaxError("must be a number");
  return input.value === "" ? undefined : Number(input.value);
}
