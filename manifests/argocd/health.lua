-- Health of an NLPModel or a DevicePool for Argo CD, read from its conditions as docs/gitops.md says. Argo CD gives scripts
-- the base and table libraries of Lua 5.1 only, so there is no string library here.

local function condition(type)
  for _, one in ipairs(obj.status.conditions) do
    if one.type == type then
      return one
    end
  end
  return {}
end

if obj.status == nil or obj.status.conditions == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return {status = "Progressing", message = "The operator has not seen the newest spec yet."}
end

local ready, stalled = condition("Ready"), condition("Stalled")

if stalled.status == "True" then
  return {status = "Degraded", message = stalled.message}
end
if obj.spec.suspend == true then
  return {status = "Suspended", message = "spec.suspend is true. " .. (ready.message or "")}
end
if ready.status == "True" then
  return {status = "Healthy", message = ready.message}
end
return {status = "Progressing", message = ready.message or "The operator has not judged it yet."}
