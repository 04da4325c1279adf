# Installs into an empty prefix and lets the installed program do its main job there, without network.
#   cmake -D BUILD_DIR=... -D WORK_DIR=... -D BUILD_TYPE=... -P install.cmake
cmake_minimum_required(VERSION 3.25)

set(prefix ${WORK_DIR}/prefix)
file(REMOVE_RECURSE ${WORK_DIR})
execute_process(COMMAND ${CMAKE_COMMAND} --install ${BUILD_DIR} --prefix ${prefix}
  COMMAND_ERROR_IS_FATAL ANY OUTPUT_QUIET)

foreach(page LICENSE README.md docs/run.md)
  if(NOT EXISTS ${prefix}/share/doc/sluice/${page})
    message(FATAL_ERROR "${page} is not installed")
  endif()
endforeach()
# Debug information would make it 160 MB.
file(SIZE ${prefix}/bin/sluice program_bytes)
if(BUILD_TYPE STREQUAL "Release" AND program_bytes GREATER 16000000)
  message(FATAL_ERROR "the installed program has ${program_bytes} bytes")
endif()

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
