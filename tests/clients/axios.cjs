// A front end as its authors write it: axios with an interceptor that refreshes, and forms.
// node axios.cjs URL EXPIRED_ACCESS REFRESH   prints what happened, as JSON.
const axios = require('axios')

const [url, access, refresh] = process.argv.slice(2)
const store = { access, refresh }
const sent = { refreshes: 0, loggedOut: 0 }

const api = axios.create({ baseURL: url })
api.interceptors.request.use((config) => {
  if (store.access) config.headers.Authorization = `JWT ${store.access}`
  return config
})

let refreshing = null
async function renew() {
  sent.refreshes += 1
  try {
    const { data } = await axios.post(`${url}/auth/jwt/refresh/`, { refresh: store.refresh })
    store.access = data.access
    store.refresh = data.refresh ?? store.refresh
  } catch (error) {
    sent.loggedOut += 1
    store.access = store.refresh = null
    throw error
  }
}

api.interceptors.response.use(undefined, async (error) => {
  const { config, response } = error
  if (response?.status !== 401 || response.data.code !== 'token_not_valid' || config._retry || !store.refresh) throw error
  config._retry = true
  refreshing ??= renew().finally(() => { refreshing = null })
  await refreshing
  return api(config)
})

const statuses = (answers) => answers.map((one) => one.status)
const tried = (promise) => promise.then((one) => one.status, (error) => error.response.status)

async function forms() {
  const body = (name) => ({ email: `${name}@example.com`, username: name, password: 'a walrus in the attic' })
  const login = (name) => ({ username: name, password: 'a walrus in the attic' })
  const data = (values) => Object.entries(values).reduce((all, [key, value]) => (all.append(key, value), all), new FormData())
  const post = (path, body) => fetch(`${url}${path}`, { method: 'POST', body })
  const answers = [
    await post('/auth/users/', new URLSearchParams(body('urlencoded'))),
    await post('/auth/users/', data(body('multipart'))),
    await post('/auth/jwt/create/', new URLSearchParams(login('urlencoded'))),
    await post('/auth/jwt/create/', data(login('multipart'))),
    await axios.postForm(`${url}/auth/users/`, body('axios')),
    await axios.post(`${url}/auth/jwt/create/`, new URLSearchParams(login('axios'))),
  ]
  return statuses(answers)
}

async function main() {
  const together = statuses(await Promise.all([1, 2, 3, 4, 5].map(() => api.get('/auth/users/me/'))))
  const afterwards = (await api.get('/auth/users/me/')).data.username
  const afterRefreshing = sent.refreshes
  await axios.post(`${url}/auth/jwt/logout/`, { refresh: store.refresh })
  const ended = await Promise.all([1, 2, 3].map(() => tried(api.get('/auth/users/me/'))))
  const wrong = await tried(api.post('/auth/jwt/create/', { username: 'nobody', password: 'wrong' }))
  const result = { together, afterwards, afterRefreshing, ended, wrong, ...sent, forms: await forms() }
  console.log(JSON.stringify(result))
}

main().catch((error) => {
  console.error(error.response ? `${error.config.url} ${error.response.status} ${JSON.stringify(error.response.data)}` : error)
  process.exit(1)
})
