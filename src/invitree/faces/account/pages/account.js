// What a link in a mail asks for: `#/<task>/<uid>/<token>`. The fragment stays in this browser until the button is pressed.

const TEXTS = {
  en: {
    nothing: ["Your account", "Links in our mails lead to this page. This one is not complete: copy it whole."],
    activate: ["Confirm your address", "Press the button, and your account is open.", "Confirm", "Your address is confirmed. You can log in now."],
    "email/change/confirm": ["Confirm your new address", "Press the button, and this address takes the place of the old one.", "Confirm", "Your new address is confirmed. Log in with it from now on."],
    "password/reset/confirm": ["Choose a new password", "You will be logged out everywhere.", "Set the password", "Your new password is set. You can log in with it now."],
    "username/reset/confirm": ["Choose another username", "You log in with it from now on.", "Set the username", "Your new username is set. You can log in with it now."],
    new_password: "New password",
    re_new_password: "The same again",
    new_username: "New username",
    link: "This link was used already or is too old. Ask for another one.",
    offline: "The service cannot be reached. Try again.",
  },
  ru: {
    nothing: ["Ваша учётная запись", "На эту страницу ведут ссылки из наших писем. Эта ссылка неполная: скопируйте её целиком."],
    activate: ["Подтвердите адрес", "Нажмите кнопку, и учётная запись будет открыта.", "Подтвердить", "Адрес подтверждён. Теперь можно войти."],
    "email/change/confirm": ["Подтвердите новый адрес", "Нажмите кнопку, и этот адрес заменит прежний.", "Подтвердить", "Новый адрес подтверждён. Входите теперь с ним."],
    "password/reset/confirm": ["Придумайте новый пароль", "На всех устройствах придётся войти заново.", "Сохранить пароль", "Новый пароль сохранён. Теперь с ним можно войти."],
    "username/reset/confirm": ["Придумайте новое имя пользователя", "С ним вы будете входить.", "Сохранить имя", "Новое имя сохранено. Теперь с ним можно войти."],
    new_password: "Новый пароль",
    re_new_password: "Ещё раз",
    new_username: "Новое имя пользователя",
    link: "Эта ссылка уже использована или устарела. Запросите новую.",
    offline: "Сервис недоступен. Попробуйте ещё раз.",
  },
};

const TASKS = {
  activate: { route: "activation", fields: [] },
  "email/change/confirm": { route: "set_email_confirm", fields: [] },
  "password/reset/confirm": { route: "reset_password_confirm", fields: ["new_password", "re_new_password"] },
  "username/reset/confirm": { route: "reset_username_confirm", fields: ["new_username"] },
};

const language = navigator.languages.map((tag) => tag.slice(0, 2)).find((tag) => tag in TEXTS) ?? "en";
const texts = TEXTS[language];
const form = document.querySelector("form");
const [, task, uid, token] = location.hash.match(/^#\/(.+)\/([\w-]+)\/([\w.-]+)$/) ?? [];
const { route, fields } = TASKS[task] ?? {};
const [title, lead, action, done] = route ? texts[task] : texts.nothing;

document.documentElement.lang = language;
document.title = document.querySelector("h1").textContent = title;
say(lead);
if (route) ask();
addEventListener("hashchange", () => location.reload());

function say(text, how = "") {
  const paragraph = document.querySelector("#lead");
  paragraph.textContent = text;
  paragraph.className = how;
}

function ask() {
  form.append(...fields.map(field), Object.assign(document.createElement("button"), { textContent: action }));
  form.hidden = false;
  form.addEventListener("submit", send);
  form.querySelector("input, button").focus();
}

function field(name) {
  const input = Object.assign(document.createElement("input"), { name, required: true });
  input.type = name.includes("password") ? "password" : "text";
  input.autocomplete = name.includes("password") ? "new-password" : "username";
  const label = document.createElement("label");
  input.setAttribute("aria-describedby", "lead");
  label.append(texts[name], input);
  return label;
}

async function send(event) {
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    // Relative: the service may be anywhere below its public URL.
    const answer = await fetch(`../auth/users/${route}/`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "Accept-Language": language },
      body: JSON.stringify({ uid, token, ...Object.fromEntries(new FormData(form)) }),
    });
    if (answer.ok) return finish();
    const problem = await answer.json();
    if (problem.code === "stale_token") return finish();
    if (problem.uid || problem.token) return refuse(texts.link);
    say(reason(problem), "wrong");
  } catch {
    say(texts.offline, "wrong");
  }
  button.disabled = false;
  form.querySelector("input, button").focus();
}

function refuse(text) {
  form.hidden = true;
  say(text, "wrong");
}

function reason(problem) {
  const lists = [...fields, "new_email", "non_field_errors"].map((name) => problem[name] ?? []);
  return lists.flat().join(" ") || problem.detail;
}

function finish() {
  form.hidden = true;
  history.replaceState(null, "", location.pathname);
  say(done, "done");
}
