// Numbers as people read them. What is missing is a dash.

export const NONE = "–";
const missing = (value) => value === null || value === undefined || Number.isNaN(value);

export function number(value, digits = 4) {
  if (missing(value)) return NONE;
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e7)) return value.toExponential(2).replace("e+", "e");
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return value.toLocaleString("en", { maximumSignificantDigits: digits });
}

export const whole = (value) => (missing(value) ? NONE : Math.round(value).toLocaleString("en"));
export const share = (value) => (missing(value) ? NONE : value.toFixed(3));
export const percent = (value, digits = 0) => (missing(value) ? NONE : `${(value * 100).toFixed(digits)} %`);

export function rate(value) {
  if (missing(value)) return NONE;
  return value === 0 ? "0" : value.toExponential(2);
}

export function bytes(value) {
  if (missing(value)) return NONE;
  const gigabytes = value / 1e9;
  return gigabytes >= 1 ? `${gigabytes.toFixed(gigabytes < 10 ? 2 : 1)} GB` : `${Math.round(value / 1e6)} MB`;
}

export function duration(seconds) {
  if (missing(seconds)) return NONE;
  const rounded = Math.max(Math.round(seconds), 0);
  if (rounded < 60) return `${rounded} s`;
  if (rounded < 3600) return `${Math.floor(rounded / 60)} min ${rounded < 600 ? `${rounded % 60} s` : ""}`.trim();
  const hours = Math.floor(rounded / 3600);
  if (hours < 48) return `${hours} h ${Math.floor((rounded % 3600) / 60)} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

export function clock(seconds, now) {
  const then = new Date((now + seconds) * 1000);
  const time = then.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const sameDay = then.toDateString() === new Date(now * 1000).toDateString();
  return sameDay ? time : `${then.toLocaleDateString([], { weekday: "short", day: "numeric", month: "short" })}, ${time}`;
}

export const words = (name) => name.replaceAll("_", " ");
