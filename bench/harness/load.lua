-- wrk script: replays prepared requests in rotation and checks every response.
--   WRK_REQUESTS  file of lines METHOD \t PATH \t HEADERS \t BODY; headers are NAME: VALUE, \31 between them;
--                 {unique} in a header or a body is another text in every request
--   WRK_RUN       what no other run begins such a text with
--   WRK_STATUS    expected status
--   WRK_ITEMS     how often WRK_MARKER must occur in every body (0: not checked)
--   WRK_CHAIN     optional Lua pattern. Each line's BODY is then a seed value, and
--                 WRK_TEMPLATE the body it is put in (at {chain}); what the pattern
--                 captures in a response seeds a later request (one-time tokens).
local want, items, marker = tonumber(os.getenv("WRK_STATUS")), tonumber(os.getenv("WRK_ITEMS")), os.getenv("WRK_MARKER")
local chain, template = os.getenv("WRK_CHAIN"), os.getenv("WRK_TEMPLATE")
local run, sent, UNIQUE = os.getenv("WRK_RUN"), 0, string.rep("@", 20)
local threads = {}
good, bad_status, bad_items, last_bad = 0, 0, 0, 0

local requests, at = {}, 0              -- plain mode
local seeds, head, tail, line = {}, 1, 0, nil    -- chain mode: a queue

function setup(thread) table.insert(threads, thread) end

function init(args)
  for text in io.lines(os.getenv("WRK_REQUESTS")) do
    local method, path, lines, body = text:gsub("{unique}", UNIQUE):match("^([^\t]*)\t([^\t]*)\t([^\t]*)\t(.*)$")
    local headers = {}
    for line in lines:gmatch("[^\31]+") do
      local name, value = line:match("^([^:]+):%s*(.*)$")
      headers[name] = value
    end
    if body ~= "" then headers["Content-Type"] = "application/json" end
    if chain then
      line = {method, path, headers}
      tail = tail + 1
      seeds[tail] = body
    else
      table.insert(requests, wrk.format(method, path, headers, body ~= "" and body or nil))
    end
  end
end

function request()
  if chain then
    local seed = seeds[head]
    seeds[head], head = nil, head + 1
    local from, to = template:find("{chain}", 1, true)
    return wrk.format(line[1], line[2], line[3], template:sub(1, from - 1) .. seed .. template:sub(to + 1))
  end
  at = at % #requests + 1
  local text = requests[at]
  if text:find(UNIQUE, 1, true) then
    sent = sent + 1
    text = text:gsub(UNIQUE, run .. string.format("%08d", sent))
  end
  return text
end

local function occurrences(body)
  local n, pos = 0, 1
  while true do
    local from, to = body:find(marker, pos, true)
    if not from then return n end
    n, pos = n + 1, to + 1
  end
end

function response(status, headers, body)
  if status ~= want then
    bad_status, last_bad = bad_status + 1, status
  elseif items > 0 and occurrences(body) ~= items then
    bad_items = bad_items + 1
  else
    local new = chain and body:match(chain)
    if new then
      tail = tail + 1
      seeds[tail] = new
    end
    if chain and not new then bad_items = bad_items + 1 else good = good + 1 end
  end
end

function done(summary, latency, _)
  local g, s, i, last = 0, 0, 0, 0
  for _, t in ipairs(threads) do
    g, s, i = g + t:get("good"), s + t:get("bad_status"), i + t:get("bad_items")
    last = math.max(last, t:get("last_bad"))
  end
  local e = summary.errors
  io.write(string.format('\nRESULT {"good":%d,"bad_status":%d,"bad_items":%d,"last_bad_status":%d,"socket_errors":%d,' ..
    '"seconds":%.6f,"requests":%d,"bytes":%d,"p50_ms":%.3f,"p99_ms":%.3f,"mean_ms":%.3f}\n',
    g, s, i, last, e.connect + e.read + e.write + e.timeout, summary.duration / 1e6, summary.requests, summary.bytes,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency.mean / 1e3))
end
