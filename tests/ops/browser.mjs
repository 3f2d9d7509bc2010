// Drives one Chromium for tests/ops/browser.py: a line of JSON in, a line of JSON out.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [modules, executablePath] = process.argv.slice(2);
const need = createRequire(`${modules}/`);
const { chromium } = need("playwright-core");
const axe = readFileSync(need.resolve("axe-core/axe.min.js"), "utf8");
// Without these Chromium asks for Google's hosts at every start, which nobody here can reach.
const args = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--hide-scrollbars",
];
const browser = await chromium.launch({ executablePath, args });
let context, page, seen;

const verbs = {
  async open({ url, javascript = true, scheme = "light", width = 900, height = 1200, scale = 1 }) {
    await context?.close();
    context = await browser.newContext({
      javaScriptEnabled: javascript, colorScheme: scheme, viewport: { width, height }, deviceScaleFactor: scale,
    });
    page = await context.newPage();
    seen = { requests: [], complaints: [] };
    page.on("request", (request) => seen.requests.push(request.url()));
    page.on("console", (message) => { if (["error", "warning"].includes(message.type())) seen.complaints.push(message.text()); });
    page.on("dialog", (dialog) => { seen.complaints.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
    page.on("pageerror", (error) => seen.complaints.push(String(error)));
    await page.goto(url);
  },
  seen: async () => seen,
  async evaluate({ script }) {
    try {
      return await page.evaluate(script);
    } catch (error) {
      if (!String(error).includes("context was destroyed")) throw error;
      await page.waitForLoadState(); // it was just being loaded anew
      return page.evaluate(script);
    }
  },
  press: async ({ key }) => page.keyboard.press(key),
  click: async ({ selector }) => page.click(selector, { timeout: 5000 }),
  screenshot: async ({ path, whole = true }) => { await page.screenshot({ path, fullPage: whole }); },
  async axe() {
    await page.evaluate(axe);
    const found = await page.evaluate("axe.run(document, {resultTypes: ['violations']})");
    return found.violations.map(({ id, impact, help, nodes }) => ({ id, impact, help, nodes: nodes.map((node) => node.html) }));
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { verb, ...how } = JSON.parse(line);
  let answer;
  try {
    answer = { found: (await verbs[verb](how)) ?? null };
  } catch (error) {
    answer = { error: String(error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
