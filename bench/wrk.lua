-- Sends the requests of a file, one after the other and from the beginning again: METHOD, path, Authorization and body,
-- parted by tabs. The second argument is a pause before each, in milliseconds. The last line of the output is a JSON
-- object with what was measured, times in microseconds.
local requests, last = {}, -1

function init(args)
  local pause = tonumber(args[2])
  if pause > 0 then delay = function() return pause end end
  for line in io.lines(args[1]) do
    local method, path, token, body = line:match("([^\t]*)\t([^\t]*)\t([^\t]*)\t(.*)")
    local headers = {["Host"] = "bench"}
    if token ~= "" then headers["Authorization"] = token end
    if body ~= "" then headers["Content-Type"] = "application/json" end
    requests[#requests + 1] = wrk.format(method, path, headers, body ~= "" and body or nil)
  end
end

function request()
  last = last + 1  -- the first call is wrk's own, to see what it gets, and is not sent
  return requests[math.max(last - 1, 0) % #requests + 1]
end

function done(summary, latency, _)
  local lost = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  io.write(string.format(
    '\n{"requests": %d, "duration_us": %d, "refused": %d, "lost": %d, "p50_us": %d, "p99_us": %d}\n',
    summary.requests, summary.duration, summary.errors.status, lost, latency:percentile(50), latency:percentile(99)))
end
