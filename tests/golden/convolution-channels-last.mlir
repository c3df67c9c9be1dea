#map = affine_map<(d0, d1, d2, d3) -> (d0, d3, d1, d2)>
#map1 = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>
#map2 = affine_map<(d0, d1, d2, d3) -> (d0, d2, d3, d1)>
#map3 = affine_map<(d0, d1, d2, d3) -> (d1)>
module {
  func.func @kernel(%arg0: tensor<1x4x8x8xf32>, %arg1: tensor<3x3x4x6xf32>, %arg2: tensor<6xf32>, %arg3: !hal.buffer {iree.abi.output = 0 : index}) -> tensor<1x6x4x4xf32> {
    %0 = tensor.empty() : tensor<1x8x8x4xf32>
    %1 = linalg.generic {indexing_maps = [#map, #map1], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%arg0 : tensor<1x4x8x8xf32>) outs(%0 : tensor<1x8x8x4xf32>) {
    ^bb0(%in: f32, %out: f32):
      linalg.yield %in : f32
    } -> tensor<1x8x8x4xf32>
    %cst = arith.constant 0.000000e+00 : f32
    %padded = tensor.pad %1 low[0, 1, 1, 0] high[0, 1, 1, 0] {
    ^bb0(%arg4: index, %arg5: index, %arg6: index, %arg7: index):
      tensor.yield %cst : f32
    } : tensor<1x8x8x4xf32> to tensor<1x10x10x4xf32>
    %2 = tensor.empty() : tensor<1x4x4x6xf32>
    %cst_0 = arith.constant 0.000000e+00 : f32
    %3 = linalg.fill ins(%cst_0 : f32) outs(%2 : tensor<1x4x4x6xf32>) -> tensor<1x4x4x6xf32>
    %4 = linalg.conv_2d_nhwc_hwcf {dilations = dense<1> : tensor<2xi64>, strides = dense<2> : tensor<2xi64>} ins(%padded, %arg1 : tensor<1x10x10x4xf32>, tensor<3x3x4x6xf32>) outs(%3 : tensor<1x4x4x6xf32>) -> tensor<1x4x4x6xf32>
    %5 = tensor.empty() : tensor<1x6x4x4xf32>
    %6 = linalg.generic {indexing_maps = [#map2, #map3, #map1], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%4, %arg2 : tensor<1x4x4x6xf32>, tensor<6xf32>) outs(%5 : tensor<1x6x4x4xf32>) {
    ^bb0(%in: f32, %in_1: f32, %out: f32):
      %7 = arith.addf %in, %in_1 : f32
      %cst_2 = arith.constant 0.000000e+00 : f32
      %8 = arith.cmpf olt, %cst_2, %7 : f32
      %9 = arith.select %8, %7, %cst_2 : f32
      linalg.yield %9 : f32
    } -> tensor<1x6x4x4xf32>
    return %6 : tensor<1x6x4x4xf32>
  }
}
