// Fields of a form, made from their schema in the OpenAPI description.

import { h, label } from "./dom.js";

/** Suggestions for fields whose schema allows any name. */
const SUGGESTIONS = { db: ["simulated", "pinot", "none"], cache: ["simulated", "redis", "none"] };

/** Returns the schema without references, and without `null` as a choice. A number that may also be
 * a word, such as `auto`, gets that as its `word`: an empty field means it. */
function resolved(schema, schemas) {
	const word = schema.anyOf?.find((choice) => choice.const)?.const;
	const inner = schema.$ref ? schemas[schema.$ref.split("/").pop()] : schema.anyOf?.find((choice) => choice.type !== "null" && !choice.const);
	return inner ? { ...resolved(inner, schemas), ...schema, word, $ref: undefined, anyOf: undefined } : schema;
}

export const fieldsOf = (schema, schemas) => Object.entries(schema.properties).map(([key, value]) => ({ name: key, key, spec: resolved(value, schemas) }));

export const queryFields = (operation, schemas) => operation.parameters.filter((parameter) => parameter.in === "query")
	.map(({ name, description, schema }) => ({ name, key: name, spec: { ...resolved(schema, schemas), description } }));

function hint(spec, isChosen) {
	const { minimum, maximum } = spec.prefixItems?.[0] ?? spec;
	const bounds = `${bound(minimum)} … ${bound(maximum)} ${spec.unit ?? ""}`.replace(/^ …  /, "").trim();
	const words = (spec.description ?? "").replaceAll("`", "").replace(/\s+/g, " ");
	return words + (bounds && ` ${bounds}.`) + (isChosen ? " Chosen for you when empty." : "");
}

// A larger bound is that of the type.
const bound = (value) => (Math.abs(value ?? NaN) < 2 ** 53 ? value.toLocaleString("en", { maximumSignificantDigits: 15 }) : "");

const textOf = (value) => String(value ?? "");

/** Makes a field. Its `read()` returns the input, undefined for the default, and raises SyntaxError.
 * `isChosen`: the service chooses if the field is empty. `names` are the options if the schema has
 * none, `disabled` the unavailable ones. */
export function makeField({ name, key, spec }, form, { isChosen, names = spec.enum, disabled = [] }) {
	const id = `${form}-${name.replaceAll(".", "-")}`;
	const shared = { id, name, "aria-describedby": `${id}-hint ${id}-fault`, autocomplete: "off", spellcheck: "false" };
	const start = isChosen || (spec.word && spec.default === spec.word) ? undefined : spec.default;
	let inputs, get, fill;

	function plain(input, parse = (text) => text, write = textOf) {
		inputs = [input];
		get = () => (entered(input) === "" ? undefined : parse(entered(input)));
		fill = (value) => { input.value = write(value); };
	}

	if (names) {
		const empty = start === undefined && h("option", { value: "" }, "any");
		plain(h("select", shared, empty, names.map((value) => h("option", { value, disabled: disabled.includes(value) },
			value, disabled.includes(value) && " (not available)"))), (text) => names.find((value) => textOf(value) === text));
	} else if (spec.type === "boolean") {
		inputs = [h("input", { ...shared, type: "checkbox" })];
		get = () => inputs[0].checked;
		fill = (value) => { inputs[0].checked = value; };
	} else if (spec.prefixItems) {
		inputs = ["least", "most"].map((word, i) => h("input", { ...shared, id: i ? `${id}-most` : id, type: "number", step: "any",
			min: spec.prefixItems[i].minimum, max: spec.prefixItems[i].maximum, "aria-label": `${label(name, true)}, ${word}` }));
		get = () => inputs.map((input) => (entered(input) === "" ? null : Number(input.value)));
		fill = (pair) => inputs.forEach((input, i) => { input.value = textOf(pair?.[i]); });
	} else if (spec.type === "array") {
		plain(h("textarea", { ...shared, rows: 3 }), JSON.parse, (value) => (value ? JSON.stringify(value) : ""));
	} else if (["integer", "number"].includes(spec.type)) {
		plain(h("input", { ...shared, type: "number", min: spec.minimum, max: spec.maximum, step: spec.type === "integer" ? 1 : "any",
			placeholder: isChosen ? "chosen" : spec.word ?? "none" }), Number);
	} else {
		plain(h("input", { ...shared, list: SUGGESTIONS[name] && `${id}-list`, maxlength: spec.maxLength, placeholder: "default" }));
	}

	const fault = h("p.fault", { id: `${id}-fault` });
	const about = h("p.hint", { id: `${id}-hint` }, hint(spec, isChosen));
	const list = SUGGESTIONS[name] && h("datalist", { id: `${id}-list` }, SUGGESTIONS[name].map((value) => h("option", { value })));
	const title = h("label", { for: id }, label(name.split(".").pop(), true));
	const reset = () => fill(start);
	reset();
	return {
		name, key, fill, reset,
		node: spec.type === "boolean" ? h("div.field.check", inputs, title, fault, about)
			: h(spec.type === "array" && !spec.prefixItems ? "div.field.wide" : "div.field", title, h("div.pair", inputs), list, fault, about),
		read() {
			const value = get();
			return textOf(value) === textOf(start) ? undefined : value;
		},
		refuse(message) {
			fault.textContent = message;
			for (const input of inputs) input.ariaInvalid = message ? "true" : null;
		},
		focus: () => inputs[0].focus(),
	};
}

function entered(input) {
	if (input.validity.badInput) throw new SyntaxError("must be a number");
	return input.value.trim();
}

/** Boxes to check; all of them checked means no choice. */
export function makeChoices({ name, key, spec }, form, names, disabled) {
	const id = `${form}-${name}`;
	const fault = h("p.fault", { id: `${id}-fault` });
	const boxes = names.map((value) => h("input", { type: "checkbox", name, value, disabled: disabled.includes(value) }));
	const fill = (values) => boxes.forEach((box) => { box.checked = !box.disabled && (!values || values.includes(box.value)); });
	fill();
	return {
		name, key, fill, reset: () => fill(),
		node: h("fieldset.field.wide", { "aria-describedby": `${id}-hint ${id}-fault` }, h("legend", label(key)),
			h("div.boxes", boxes.map((box) => h("label", box, box.value))), fault, h("p.hint", { id: `${id}-hint` }, hint(spec))),
		read: () => (boxes.every((box) => box.checked || box.disabled) ? undefined : boxes.filter((box) => box.checked).map((box) => box.value)),
		refuse: (message) => { fault.textContent = message; },
		focus: () => boxes[0].focus(),
	};
}
