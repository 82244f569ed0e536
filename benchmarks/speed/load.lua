-- Requests of random users, a third of them feedback on what was shown before, for wrk:
-- wrk ... -s load.lua URL -- USERS K RATE ITEMS RETRIEVED, of one connection; RATE 0: it asks again once it is answered.
-- RETRIEVED > 0: requests have so many of ITEMS items as candidates with priors, and feedback is on whole pages.
local users, k, rate, retrieved
local shown, candidates = {}, {}

function init(args)
  users, k, rate, retrieved = tonumber(args[1]), tonumber(args[2]), tonumber(args[3]), tonumber(args[5])
  math.randomseed(os.time())
  for number = 1, 64 do
    local first, pairs = math.random(0, tonumber(args[4]) - 1), {}
    for at = 1, retrieved do
      pairs[at] = ("[%d,%.4f]"):format((first + at) % tonumber(args[4]), 2 * math.random())
    end
    candidates[number] = retrieved > 0 and ',"candidates":[' .. table.concat(pairs, ",") .. "]" or ""
  end
end

function request()
  local headers = {["content-type"] = "application/json"}
  if #shown > 0 and math.random() < 1 / 3 then
    local place = math.random(#shown)
    local event = shown[place]
    shown[place] = shown[#shown]
    shown[#shown] = nil
    local entries = {}
    for item in event[2]:gmatch("%d+") do
      entries[#entries + 1] = ('{"item":%s,"feedback":{"click":1,"watch":0.5}}'):format(item)
    end
    local body = '{"event_id":"%s",%s'
    local given = retrieved > 0 and '"items":[' .. table.concat(entries, ",") .. "]}" or entries[1]:sub(2)
    return wrk.format("POST", "/feedback", headers, body:format(event[1], given))
  end
  local body = '{"user":%d,"k":%d%s}'
  return wrk.format("POST", "/recommend", headers, body:format(math.random(0, users - 1), k, candidates[math.random(64)]))
end

function response(status, headers, body)
  if status ~= 200 then
    io.stderr:write(status, " ", body, "\n")
    wrk.thread:stop()
  end
  local event, items = body:match('"event_id":"([^"]+)","items":%[(%d[%d,]*)')
  if event then
    shown[#shown + 1] = {event, items}
  end
end

-- Milliseconds until the connection asks again.
function delay()
  return rate == 0 and 0 or math.floor(-1000 / rate * math.log(1 - math.random()) + 0.5)
end

function done(summary, latency)
  local ms = {}
  for _, p in ipairs({50, 90, 99}) do
    ms[#ms + 1] = ('"p%d": %.1f'):format(p, latency:percentile(p) / 1000)
  end
  ms[#ms + 1] = ('"max": %.1f'):format(latency.max / 1000)
  local each_second = summary.requests / summary.duration * 1e6
  io.write(('{"requests_per_s": %.0f, "ms": {%s}}\n'):format(each_second, table.concat(ms, ", ")))
end
