"use strict";
{
  const find = (id) => document.getElementById(id);
  const ENDINGS = { "image/jpeg": "jpg", "image/apng": "png", "image/tiff": "tif", "image/x-ms-bmp": "bmp", "image/x-tga": "tga" };
  const HEIGHT = 0.75; // of a card whose picture can't be shown yet, for its width
  let token = "", listing = null, cards = [], split = 50;

  // --- The server

  class Problem extends Error {
    constructor(status, error, hint = "", fields = {}, retry = 2) {
      super(error);
      Object.assign(this, { status, hint, fields, retry });
    }
  }
  const ask = async (path, options = {}) => {
    let answer;
    try {
      answer = await fetch(path, { ...options, headers: token ? { Authorization: `Bearer ${token}` } : {} });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem(0, "The server doesn't answer.", "Is ugatit serve still running? Can the file still be read?");
    }
    if (answer.ok) return answer;
    const { error, hint, fields } = await answer.json().catch(() => ({ error: `The server answers ${answer.status}.` }));
    throw new Problem(answer.status, error, hint, fields, Number(answer.headers.get("Retry-After")) || 2);
  };
  const post = (path, file, fields, signal) => {
    const body = new FormData();
    for (const [name, value] of Object.entries(fields)) body.append(name, value);
    body.append("picture", file, file.name);
    return ask(path, { method: "POST", body, signal });
  };

  // A token comes in the link's fragment, which no server sees, and stays in this tab.
  const remember = (value) => {
    token = value;
    try {
      sessionStorage.setItem("ugatit-token", value);
    } catch { /* then it is asked for again */ }
  };
  const remembered = () => {
    const given = new URLSearchParams(location.hash.slice(1)).get("token");
    if (given) {
      remember(given);
      history.replaceState(null, "", location.pathname);
      return;
    }
    try {
      token = sessionStorage.getItem("ugatit-token") ?? "";
    } catch { /* then there is none */ }
  };

  // --- What is asked for

  const model = () => listing.models.find((one) => one.name === find("model").value);
  const way = () => model().ways.find((one) => one.direction === document.querySelector("#way :checked").value);
  const seed = () => Math.min(999999999, Math.max(0, Math.trunc(find("seed").value) || 0));
  // A background is only of pictures that it shows through.
  const fields = (card) => ({
    model: model().name, direction: way().direction, fit: find("fit").value, background: card.clear ? find("background").value || find("tint").value : "white",
    ...(model().styles ? { style: `random:${seed()}` } : {}), strength: find("strength").value / 100, keep_colour: find("colour").checked, format: find("format").value,
  });
  const network = ({ model, direction, fit, background, style }) => ({ model, direction, fit, background, ...(style ? { style } : {}) });
  const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

  const showModel = () => {
    const { ways, styles, attention, masks } = model();
    find("way").replaceChildren(...ways.map(({ direction, source, target }, i) => {
      const label = document.createElement("label");
      const radio = Object.assign(document.createElement("input"), { type: "radio", name: "way", value: direction, checked: i === 0, autocomplete: "off" });
      label.append(radio, Object.assign(document.createElement("span"), { textContent: `${source} → ${target}`, dir: "auto" }));
      return label;
    }));
    find("styles").hidden = !styles;
    find("looks").hidden = !attention;
    find("scale").hidden = !looks();
    [find("low").textContent, find("high").textContent, find("meaning").textContent] = masks
      ? ["kept", "replaced", "What the translation replaces:"] : ["least", "most", "Where the network looks:"];
  };
  const showWay = () => {
    const { source, target } = way();
    find("title").textContent = `${source} → ${target}`;
    document.title = `${source} → ${target} · ugatit`;
  };
  const changed = () => {
    showWay();
    find("tint").hidden = Boolean(find("background").value);
    for (const card of cards) {
      if (same(card.asked, fields(card)) && card.state !== "waiting") continue;
      if (card.stop) card.stop.abort();
      show(card, "waiting");
    }
    pump();
  };

  // --- Cards

  const size = (bytes) => bytes < 999.5e3 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
  const part = (card, selector) => card.item.querySelector(selector);
  const keep = (card, name, blob) => {
    if (card.urls[name]) URL.revokeObjectURL(card.urls[name]);
    card.urls[name] = blob ? URL.createObjectURL(blob) : "";
    return card.urls[name];
  };
  const loaded = (image, url) => new Promise((resolve) => {
    image.onload = () => resolve(true);
    image.onerror = () => resolve(false);
    image.src = url;
  });
  const move = (card, value) => {
    card.item.style.setProperty("--split", value);
    const input = part(card, ".frame input");
    input.value = value;
    input.setAttribute("aria-valuetext", `${Math.round(value)} % before`);
  };
  const words = (card) => ({
    waiting: "Waiting", working: "Translating …", busy: "The server is busy; it is asked again soon.", failed: card.problem?.message,
    done: card.result && `${card.width} × ${card.height} · ${size(card.result.size)}`,
  });
  const plain = (card, text) => text.startsWith(`${card.file.name}: `) ? text.slice(card.file.name.length + 2) : text;
  const sentence = (text) => text && `${text[0].toUpperCase()}${text.slice(1)}${/[.!?…]$/.test(text) ? "" : "."}`;
  const made = (kind, properties) => Object.assign(document.createElement(kind), properties);
  // The setting here that a field of a request is, where it has the value and isn't set to it.
  const settingOf = ([name, value]) => {
    const control = ["fit", "background", "format"].includes(name) ? find(name) : null, option = [...control?.options ?? []].find((one) => one.value === value);
    return option && !option.selected ? { control, option, title: `${control.labels[0].firstChild.data.trim()}: ${option.text}` } : null;
  };
  const choose = (card, { control, option, title }) => {
    option.selected = true;
    control.closest("details")?.setAttribute("open", "");
    control.dispatchEvent(new Event("change", { bubbles: true }));
    part(card, card.result ? ".frame input" : ".remove").focus({ preventScroll: true });
    say(title);
  };
  // Hints are for programs where there are fields that do the same, which here are settings.
  const tell = (card, said) => part(card, ".hints").replaceChildren(...said.flatMap(({ note = "", hint, fields = {} }) => {
    const asked = Object.entries(fields), settings = asked.map(settingOf).filter(Boolean);
    const text = [sentence(note), ...(asked.length ? settings.map(({ option }) => option.dataset.about) : [sentence(hint)])].filter(Boolean).join(" ");
    const buttons = settings.map((setting) => made("button", { type: "button", textContent: setting.title, onclick: () => choose(card, setting) }));
    return [...(text ? [made("p", { textContent: text })] : []), ...buttons];
  }));
  const show = (card, state, problem = null) => {
    Object.assign(card, { state, problem });
    const { item } = card, has = Boolean(card.result);
    item.classList.toggle("has-result", has);
    for (const one of ["waiting", "working", "failed"]) item.classList.toggle(`is-${one}`, one === (state === "busy" ? "waiting" : state));
    part(card, ".state").textContent = words(card)[state];
    tell(card, problem ? [{ hint: problem.hint, fields: problem.fields }] : state === "done" ? card.notes : []);
    part(card, ".save").hidden = !has;
    part(card, ".retry").hidden = state !== "failed";
    part(card, ".frame input").disabled = !has;
    if (state === "done") say(`${card.file.name} is translated.`);
    if (state === "failed") say(`${card.file.name}: ${sentence(problem.message)} ${part(card, ".hints").textContent}`);
    update();
  };
  const shape = (card, width, height) => {
    Object.assign(card, { width, height });
    card.item.style.setProperty("--w", width);
    card.item.style.setProperty("--h", height);
    card.item.classList.toggle("small", Math.max(width, height) < 160);
  };
  const isClear = (image) => {
    const [width, height] = [image.naturalWidth, image.naturalHeight].map((side) => Math.max(1, Math.min(side, 256)));
    const drawing = made("canvas", { width, height }).getContext("2d", { willReadFrequently: true });
    drawing.drawImage(image, 0, 0, width, height);
    return drawing.getImageData(0, 0, width, height).data.some((value, i) => i % 4 === 3 && value < 250);
  };
  // The browser shows most pictures itself; of others, and of those that may be too large for it, the server tells.
  const preview = async (card) => {
    const image = new Image();
    card.shown = await loaded(image, keep(card, "before", card.file));
    const { naturalWidth: width, naturalHeight: height } = image;
    card.clear = !card.shown;
    if (card.shown && width * height <= (listing.limits.pixels ?? Infinity)) {
      card.clear = isClear(image);
      shape(card, width, height);
      part(card, ".before").src = card.urls.before;
    }
    update();
  };
  const create = (file) => {
    const item = find("card").content.cloneNode(true).firstElementChild;
    const card = { file, item, urls: {}, notes: [], asked: null, looked: null, result: null, width: 4, height: 4 * HEIGHT };
    part(card, "h3").textContent = file.name;
    part(card, ".frame input").setAttribute("aria-label", `Divider of ${file.name}`);
    for (const name of ["before", "after"]) part(card, `.${name}`).alt = `${file.name}, ${name}`;
    for (const [name, verb] of [["save", "Download"], ["remove", "Remove"], ["retry", "Try again:"]]) {
      part(card, `.${name}`).setAttribute("aria-label", `${verb} ${file.name}`);
    }
    part(card, ".remove").addEventListener("click", () => remove(card));
    part(card, ".retry").addEventListener("click", () => {
      show(card, "waiting");
      pump();
    });
    move(card, split);
    card.ready = preview(card);
    find("cards").append(item);
    cards.push(card);
    show(card, "waiting");
  };
  const forget = (card) => {
    card.stop?.abort();
    for (const name of Object.keys(card.urls)) keep(card, name, null);
    card.item.remove();
    cards = cards.filter((one) => one !== card);
  };
  const remove = (card) => {
    const at = cards.indexOf(card);
    forget(card);
    say(`${card.file.name} is removed.`);
    update();
    (cards[Math.min(at, cards.length - 1)]?.item.querySelector(".remove") ?? find("choose")).focus();
  };

  // --- Results

  const nameOf = ({ file, result, target }, taken) => {
    const kind = ENDINGS[result.type] ?? result.type.split("/")[1], stem = `${file.name.replace(/\.[^.]*$/, "") || "picture"}-${target}`;
    let name = `${stem}.${kind}`;
    for (let i = 2; taken.has(name); i++) name = `${stem}-${i}.${kind}`;
    taken.add(name);
    return name;
  };
  const translate = async (card, asked, signal) => {
    const { target } = way(), format = card.shown || asked.format !== "same" ? asked.format : "png";
    const answer = await post("translate", card.file, { ...asked, format }, signal);
    const notes = JSON.parse(answer.headers.get("Ugatit-Notes") ?? "[]"), result = await answer.blob();
    if (!card.shown) {
      const plain = await post("translate", card.file, { ...network(asked), strength: 0, format: "jpg" }, signal);
      card.shown = await loaded(part(card, ".before"), keep(card, "before", await plain.blob()));
    }
    const after = part(card, ".after");
    await loaded(after, keep(card, "after", result));
    shape(card, after.naturalWidth || card.width, after.naturalHeight || card.height);
    if (!same(card.looked, network(asked))) {
      part(card, ".heat").hidden = true;
      card.looked = null;
    }
    Object.assign(card, { result, notes, target });
    Object.assign(part(card, ".save"), { href: card.urls.after, download: nameOf(card, new Set()) });
    [part(card, ".from").textContent, part(card, ".into").textContent] = [way().source, target];
  };
  const look = async (card, asked, signal) => {
    const answer = await post("attention", card.file, network(asked), signal);
    await loaded(part(card, ".heat"), keep(card, "heat", await answer.blob()));
    card.looked = network(asked);
    part(card, ".heat").hidden = !find("attention").checked;
  };
  const looks = () => find("attention").checked && model().attention;
  const unseen = (card) => card.state === "done" && !card.blind && !same(card.looked, network(card.asked));

  // One at a time, as the server has one thread: those who wait, then those whose attention is wanted.
  const work = async (card) => {
    const asked = fields(card), first = card.state !== "done";
    card.stop = new AbortController();
    const { signal } = card.stop;
    if (first) {
      Object.assign(card, { asked, blind: false });
      card.item.style.setProperty("--ground", asked.background);
      show(card, "working");
    }
    try {
      if (!card.file.size) throw new Problem(400, "The file is empty.", "Copy it again from where it came from.");
      if (card.file.size > listing.limits.bytes) {
        throw new Problem(413, `The file has ${size(card.file.size)}, more than the ${size(listing.limits.bytes)} that this server takes.`, "Make it smaller first.");
      }
      await (first ? translate : look)(card, asked, signal);
      if (first && !signal.aborted) show(card, "done");
    } catch (problem) {
      if (problem.name === "AbortError") return;
      if (problem.status === 503) {
        if (first) show(card, "busy");
        await new Promise((resolve) => setTimeout(resolve, problem.retry * 1000));
        if (card.state === "busy") show(card, "waiting");
      } else if (problem.status === 401) {
        show(card, "waiting");
        enter(problem);
      } else if (first) {
        const { status = 0, message, hint, fields } = problem;
        show(card, "failed", new Problem(status, plain(card, message), hint, fields));
      } else {
        card.blind = true;
        tell(card, [...card.notes, { note: plain(card, problem.message) }]);
      }
    } finally {
      card.stop = null;
    }
  };
  let pumping = false;
  const pump = async () => {
    if (pumping) return;
    pumping = true;
    const next = () => find("work").hidden ? null : cards.find((card) => card.state === "waiting") ?? (looks() ? cards.find(unseen) : null);
    for (let card = next(); card; card = next()) {
      await card.ready;
      if (card === next()) await work(card);
    }
    pumping = false;
  };

  // --- All of them

  const say = (text) => { find("spoken").textContent = text; };
  const notice = (text) => {
    find("notice").textContent = text;
    find("notice").hidden = !text;
  };
  const update = () => {
    const open = cards.filter((card) => ["waiting", "working", "busy"].includes(card.state)).length, done = cards.length - open;
    document.body.classList.toggle("has", cards.length > 0);
    find("tools").hidden = !cards.length;
    find("progress").hidden = !open;
    Object.assign(find("bar"), { max: cards.length || 1, value: done });
    find("count").textContent = `${done} of ${cards.length}`;
    find("clear").hidden = cards.length < 2;
    find("grounds").hidden = !cards.some((card) => card.clear);
    find("zip").hidden = open > 0 || cards.filter((card) => card.result).length < 2;
  };
  const add = (files) => {
    const most = listing.limits.pictures, room = most - cards.length, all = [...files];
    notice(all.length > room ? `${most} pictures at a time: ${all.length - Math.max(0, room)} were left out. Remove some first.` : "");
    all.slice(0, Math.max(0, room)).forEach(create);
    if (all.length && room > 0) say(`${Math.min(room, all.length)} added.`);
    pump();
  };
  const save = (blob, name) => {
    const url = URL.createObjectURL(blob);
    Object.assign(document.createElement("a"), { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60000);
  };

  // A zip whose files are as they are: pictures are compressed already.
  const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
    for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
    return n;
  });
  const checksum = (bytes) => {
    let sum = -1;
    for (const byte of bytes) sum = TABLE[(sum ^ byte) & 255] ^ (sum >>> 8);
    return ~sum >>> 0;
  };
  const little = (...pairs) => Uint8Array.from(pairs.flatMap(([value, bytes]) => Array.from({ length: bytes }, (_, i) => Math.floor(value / 256 ** i) % 256)));
  const zipped = async (files) => {
    const now = new Date(), parts = [], entries = [];
    const time = (now.getHours() << 11) | (now.getMinutes() << 5) | (now.getSeconds() >> 1);
    const date = ((now.getFullYear() - 1980) << 9) | ((now.getMonth() + 1) << 5) | now.getDate();
    let offset = 0;
    for (const [name, blob] of files) {
      const title = new TextEncoder().encode(name), sum = checksum(new Uint8Array(await blob.arrayBuffer()));
      const about = little([20, 2], [0x800, 2], [0, 2], [time, 2], [date, 2], [sum, 4], [blob.size, 4], [blob.size, 4], [title.length, 2], [0, 2]);
      parts.push(little([0x04034b50, 4]), about, title, blob);
      entries.push(little([0x02014b50, 4], [20, 2]), about, little([0, 6], [0, 4], [offset, 4]), title);
      offset += 30 + title.length + blob.size;
    }
    const length = entries.reduce((sum, entry) => sum + entry.length, 0);
    const end = little([0x06054b50, 4], [0, 4], [files.length, 2], [files.length, 2], [length, 4], [offset, 4], [0, 2]);
    return new Blob([...parts, ...entries, end], { type: "application/zip" });
  };

  // --- What people do

  find("choose").addEventListener("click", () => find("files").click());
  find("photograph").addEventListener("click", () => find("camera").click());
  for (const name of ["files", "camera"]) {
    find(name).addEventListener("change", ({ target }) => {
      add(target.files);
      target.value = "";
    });
  }
  document.addEventListener("paste", ({ clipboardData }) => {
    if (clipboardData.files.length && !find("work").hidden) add(clipboardData.files);
  });
  const carries = (event) => !find("work").hidden && event.dataTransfer?.types.includes("Files");
  for (const name of ["dragenter", "dragover"]) {
    addEventListener(name, (event) => {
      if (!carries(event)) return;
      event.preventDefault();
      find("veil").hidden = false;
    });
  }
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) find("veil").hidden = true; });
  addEventListener("drop", (event) => {
    find("veil").hidden = true;
    if (!carries(event)) return;
    event.preventDefault();
    const folders = new Set([...event.dataTransfer.items].map((one, i) => one.webkitGetAsEntry?.()?.isDirectory ? i : -1));
    const files = [...event.dataTransfer.files].filter((_, i) => !folders.has(i));
    add(files);
    if (files.length < event.dataTransfer.files.length) notice("Folders can't be dropped. Open one, and drop its pictures.");
  });

  find("settings").addEventListener("submit", (event) => event.preventDefault());
  find("strength").addEventListener("input", ({ target }) => { find("strong").value = `${target.value} %`; });
  find("dice").addEventListener("click", () => {
    find("seed").value = Math.floor(Math.random() * 1e9);
    changed();
  });
  find("settings").addEventListener("change", ({ target }) => {
    if (target.id === "model") showModel();
    changed();
  });
  find("presets").addEventListener("click", ({ target }) => {
    if (!target.value) return;
    split = Number(target.value);
    for (const button of find("presets").children) button.ariaPressed = String(button === target);
    for (const card of cards) {
      card.item.classList.remove("own");
      move(card, split);
    }
  });
  find("attention").addEventListener("change", ({ target }) => {
    find("scale").hidden = !target.checked;
    for (const card of cards) part(card, ".heat").hidden = !(target.checked && card.looked);
    if (target.checked && split < 5) find("presets").children[1].click();
    pump();
  });
  find("zip").addEventListener("click", async () => {
    const taken = new Set(), files = cards.filter((card) => card.result).map((card) => [nameOf(card, taken), card.result]);
    if (files.reduce((sum, [, blob]) => sum + blob.size, 0) > 4e9) return notice("They are too large for one zip. Download them one by one.");
    return save(await zipped(files), "ugatit.zip");
  });
  find("clear").addEventListener("click", () => {
    cards.forEach(forget);
    notice("");
    say("All pictures are removed.");
    update();
    find("choose").focus();
  });

  // A mouse moves a divider at once, a finger once it is clear that it doesn't scroll.
  let drag = null;
  const follow = ({ clientX }) => {
    const box = part(drag.card, ".frame").getBoundingClientRect();
    drag.card.item.classList.add("own");
    move(drag.card, Math.min(100, Math.max(0, (clientX - box.left) / box.width * 100)));
  };
  document.addEventListener("pointerdown", (event) => {
    const stage = event.target.closest(".stage"), card = stage && cards.find((one) => one.item.contains(stage));
    if (!card?.result || event.button !== 0 || !event.isPrimary) return;
    const mouse = event.pointerType === "mouse";
    drag = { id: event.pointerId, card, x: event.clientX, y: event.clientY, moves: mouse };
    if (!mouse) return;
    event.preventDefault();
    stage.setPointerCapture(event.pointerId);
    stage.querySelector("input").focus({ preventScroll: true });
    follow(event);
  });
  document.addEventListener("pointermove", (event) => {
    if (event.pointerId !== drag?.id) return;
    const [x, y] = [Math.abs(event.clientX - drag.x), Math.abs(event.clientY - drag.y)];
    drag.moves ||= x > 3 && x > y;
    if (drag.moves) follow(event);
  });
  document.addEventListener("pointerup", (event) => {
    if (event.pointerId !== drag?.id) return;
    if (drag.moves || Math.hypot(event.clientX - drag.x, event.clientY - drag.y) < 8) follow(event);
    drag = null;
  });
  document.addEventListener("pointercancel", () => { drag = null; });
  find("cards").addEventListener("dragstart", (event) => event.preventDefault());
  find("cards").addEventListener("input", ({ target }) => {
    const card = cards.find((one) => one.item.contains(target));
    card.item.classList.add("own");
    move(card, Number(target.value));
  });

  // --- Begin

  const sheet = (name) => { for (const one of ["login", "away", "work"]) find(one).hidden = one !== name; };
  const enter = (problem) => {
    find("wrong").textContent = token ? `${problem.message}.` : "";
    sheet("login");
    find("token").focus();
  };
  const begin = async () => {
    try {
      listing = await (await ask("models")).json();
    } catch (problem) {
      if (problem.status === 401) return enter(problem);
      find("why").textContent = problem.message;
      return sheet("away");
    }
    const before = find("model").value;
    find("model").replaceChildren(...listing.models.map(({ name }) => new Option(name, name)));
    find("models").hidden = listing.models.length < 2;
    if (listing.models.some(({ name }) => name === before)) find("model").value = before;
    find("version").textContent = listing.version;
    const { pictures, bytes, pixels } = listing.limits;
    find("most").textContent = `Up to ${pictures}, of ${size(bytes)}${pixels ? ` and ${pixels / 1e6} megapixels` : ""} each`;
    showModel();
    sheet("work");
    return changed();
  };
  find("enter").addEventListener("submit", (event) => {
    event.preventDefault();
    remember(find("token").value);
    begin();
  });
  find("again").addEventListener("click", begin);
  find("presets").children[1].ariaPressed = "true";
  remembered();
  begin();
}
