-- The health of a Pillion resource for Argo CD, by the conditions in its status. Argo CD lends neither `string` nor `math`.
local status = obj.status or {}
local conditions = {}
for _, one in ipairs(status.conditions or {}) do
  conditions[one.type] = one
end

local function health(name, message)
  return {status = name, message = message or ""}
end

if obj.metadata.deletionTimestamp ~= nil then
  return health("Progressing", "being deleted")
end
if status.observedGeneration ~= obj.metadata.generation then
  return health("Progressing", "the operator has not judged this generation yet")
end
local stalled, ready, degraded = conditions.Stalled, conditions.Ready, conditions.Degraded
if stalled ~= nil and stalled.status == "True" then
  -- Ready says why; Stalled may say no more than that an edit is needed.
  return health("Degraded", ready ~= nil and ready.message or stalled.message)
end
if ready == nil or ready.status ~= "True" then
  return health("Progressing", ready ~= nil and (ready.reason .. ": " .. ready.message) or "not ready yet")
end
if obj.spec ~= nil and obj.spec.suspend == true then
  return health("Suspended", ready.message)
end
if degraded ~= nil and degraded.status == "True" then
  -- What comes and goes by itself, as a mail server does, must not fail a synchronisation.
  return health("Healthy", degraded.reason .. ": " .. degraded.message)
end
return health("Healthy", ready.message)
