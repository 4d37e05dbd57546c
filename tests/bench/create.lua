-- wrk: POST /v1/models, each answered only after it is durable.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"name":"a model","type":"sd-1_5-lora","shortDescription":"made by the benchmark"}'

done = function(summary)
  local errors = summary.errors
  io.write(string.format("bad=%d\n", errors.status + errors.connect + errors.read + errors.write + errors.timeout))
end
