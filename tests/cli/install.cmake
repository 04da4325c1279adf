# Installs into an empty prefix and lets the installed program do its main job there, without network.
#   cmake -D BUILD_DIR=... -D WORK_DIR=... -P install.cmake
cmake_minimum_required(VERSION 3.25)

set(prefix ${WORK_DIR}/prefix)
file(REMOVE_RECURSE ${WORK_DIR})
execute_process(COMMAND ${CMAKE_COMMAND} --install ${BUILD_DIR} --prefix ${prefix}
  COMMAND_ERROR_IS_FATAL ANY OUTPUT_QUIET)

# run(EXPECTED ARGUMENTS...)
function(run expected)
  execute_process(
    COMMAND ${CMAKE_COMMAND} -E env --unset=SLUICE_DATA_DIR --unset=SLUICE_ISA XDG_DATA_HOME=${WORK_DIR}/data
      ${prefix}/bin/sluice ${ARGN}
    RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE errors)
  if(NOT result EQUAL 0 OR NOT output MATCHES "${expected}")
    message(FATAL_ERROR "sluice ${ARGN}: exit ${result}, expected '${expected}' in: ${output}${errors}")
  endif()
endfunction()

run("prefix/share/sluice/manifests/stories-moe.json" releases --json)
run("^Once upon a time[, ].*" run stories-moe -p "Once upon a time" -n 8 --temperature 0)
file(REMOVE_RECURSE ${WORK_DIR})
