-- Requests of random users, a third of them feedback on what was shown before, for wrk:
-- wrk ... -s load.lua URL -- USERS K RATE, of one connection; 0: it asks again once it is answered.
local users, k, rate
local shown = {}

function init(args)
  users, k, rate = tonumber(args[1]), tonumber(args[2]), tonumber(args[3])
  math.randomseed(os.time())
end

function request()
  local headers = {["content-type"] = "application/json"}
  if #shown > 0 and math.random() < 1 / 3 then
    local place = math.random(#shown)
    local event = shown[place]
    shown[place] = shown[#shown]
    shown[#shown] = nil
    local body = '{"event_id":"%s","item":%s,"feedback":{"click":1,"watch":0.5}}'
    return wrk.format("POST", "/feedback", headers, body:format(event[1], event[2]))
  end
  return wrk.format("POST", "/recommend", headers, ('{"user":%d,"k":%d}'):format(math.random(0, users - 1), k))
end

function response(status, headers, body)
  if status ~= 200 then
    io.stderr:write(status, " ", body, "\n")
    wrk.thread:stop()
  end
  local event, item = body:match('"event_id":"([^"]+)","items":%[(%d+)')
  if event then
    shown[#shown + 1] = {event, item}
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
  local each_second = summary.requests / summary.duration * 1e6
  io.write(('{"requests_per_s": %.0f, "ms": {%s}}\n'):format(each_second, table.concat(ms, ", ")))
end
